// Kernels that slide a window over an image: depthwise convolution and pooling.

import CApusKernels

/// A square image, channels last, and a window with the padding of half its size.
private struct Picture {
  var side, channels, kernel, stride: Int
  var out: Int { (side - 1) / stride + 1 }
  var size: String { "\(kernel)x\(kernel) s\(stride) \(channels) \(side)x\(side)" }
  /// Operations of one multiply-add a tap and channel, the padding included.
  var operations: Double { 2 * Double(out * out * channels * kernel * kernel) }
  var bytes: Int { 4 * channels * (side * side + out * out) }

  func window(_ input: KernelMemory, _ output: KernelMemory) -> apus_window_f32 {
    apus_window_f32(
      input: input.floats, output: output.floats, in_row: side * channels, in_pixel: channels, out_row: out * channels,
      out_pixel: channels, in_h: side, in_w: side, out_w: out, kernel_h: kernel, kernel_w: kernel, stride_h: stride,
      stride_w: stride, dilation_h: 1, dilation_w: 1, pad_top: kernel / 2, pad_left: kernel / 2,
      pad_bottom: kernel / 2, pad_right: kernel / 2)
  }
}

extension KernelWork {
  static func windows(_ line: KernelLine, _ table: KernelTable) -> [KernelWork]? {
    switch line.type {
    case "apus_depthwise_f32_fn": depthwise(line, table)
    case "apus_max_pool_f32_fn", "apus_average_pool_f32_fn": pools(line, table)
    default: nil
    }
  }

  private static func depthwise(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.depthwise_f32)
    let pictures = [
      Picture(side: 56, channels: 144, kernel: 3, stride: 1), Picture(side: 112, channels: 96, kernel: 3, stride: 2),
      Picture(side: 28, channels: 240, kernel: 5, stride: 1), Picture(side: 56, channels: 96, kernel: 7, stride: 1),
      Picture(side: 7, channels: 960, kernel: 3, stride: 1),
    ]
    return pictures.map { picture in
      let input = KernelMemory(picture.side * picture.side * picture.channels, "f32")
      let output = KernelMemory(picture.out * picture.out * picture.channels, "f32")
      let weights = KernelMemory(picture.kernel * picture.kernel * picture.channels, "f32")
      return KernelWork(size: picture.size, limit: .float32, amount: picture.operations) {
        var arguments = apus_depthwise_f32_args(
          window: picture.window(input, output), weights: weights.floats, weights_ld: picture.channels,
          epilogue: plainEpilogue)
        function(&arguments, 0, picture.out, 0, picture.channels)
      }
    }
  }

  private static func pools(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let pictures = [
      Picture(side: 112, channels: 64, kernel: 3, stride: 2), Picture(side: 56, channels: 64, kernel: 2, stride: 2),
      Picture(side: 35, channels: 192, kernel: 3, stride: 1),
    ]
    return pictures.map { picture in
      let input = KernelMemory(picture.side * picture.side * picture.channels, "f32")
      let output = KernelMemory(picture.out * picture.out * picture.channels, "f32")
      return moving(picture.bytes, picture.size) {
        var window = picture.window(input, output)
        if line.type == "apus_max_pool_f32_fn" {
          let function = line.function(in: table, like: table.pointee.max_pool_f32)
          function(&window, 0, picture.out, 0, picture.channels)
        } else {
          let function = line.function(in: table, like: table.pointee.average_pool_f32)
          function(&window, false, 0, picture.out, 0, picture.channels)
        }
      }
    }
  }
}
