// Pictures as inputs: decoded, resized to the input's height and width, put into its layout and type.

import Apus
import ApusImage
import ArgumentParser
import Foundation

/// How bytes of a picture become numbers: (byte · scale − mean) / deviation.
struct ImageScaling {
  /// nil: 1/255 for float inputs, 1 for integers.
  var scale: Double?
  /// Empty, one number, or one a channel.
  var mean: [Double]
  var deviation: [Double]
}

enum ImageInput {
  /// The picture in the layout of `input`: NCHW, NHWC, CHW, HWC or HW, whichever has an axis of 1, 3 or 4 channels. A
  /// symbolic batch is 1; a symbolic height or width is the picture's own.
  static func tensor(file: String, for input: ValueDescription, scaling: ImageScaling) throws -> Tensor {
    guard let dataType = input.dataType, let dimensions = input.dimensions else {
      throw ValidationError("--image: input '\(input.name)' is \(input.type); expected a tensor of known rank")
    }
    let layout = try Layout(dimensions.map { Int($0) }, input)
    let source = try decoded(file).converted(toChannels: layout.channels)
    let image = source.resized(height: layout.height ?? source.height, width: layout.width ?? source.width)
    let shape = layout.shape(height: image.height, width: image.width)
    let scale = scaling.scale ?? (dataType.isFloat ? 1.0 / 255 : 1)
    let mean = try perChannel(scaling.mean, default: 0, layout.channels, "--mean")
    let deviation = try perChannel(scaling.deviation, default: 1, layout.channels, "--std")
    guard !deviation.contains(0) else { throw ValidationError("--std: 0 cannot divide") }

    var values = [Double](repeating: 0, count: shape.elementCount)
    let area = image.height * image.width
    for pixel in 0..<area {
      for channel in 0..<layout.channels {
        let byte = Double(image.pixels[pixel * layout.channels + channel])
        let target = layout.isChannelsLast ? pixel * layout.channels + channel : channel * area + pixel
        values[target] = (byte * scale - mean[channel]) / deviation[channel]
      }
    }
    return try tensor(of: values, dataType, shape, input)
  }

  /// Which axes of a shape are height, width and channels.
  private struct Layout {
    var rank: Int
    var channels = 1
    var isChannelsLast = false
    /// nil: any.
    var height: Int?
    var width: Int?

    init(_ dims: [Int?], _ input: ValueDescription) throws {
      rank = dims.count
      guard (2...4).contains(rank), rank < 4 || dims[0] ?? 1 == 1 else {
        throw ValidationError("--image: input '\(input.name)' is \(input.type); expected one picture of rank 2 to 4")
      }
      let picture = Array(dims.suffix(3))
      if rank == 2 {
        (height, width) = (dims[0], dims[1])
      } else if let first = picture[0], [1, 3, 4].contains(first) {
        (channels, height, width) = (first, picture[1], picture[2])
      } else if let last = picture[2], [1, 3, 4].contains(last) {
        (channels, height, width, isChannelsLast) = (last, picture[0], picture[1], true)
      } else if rank == 3, picture[0] == nil || picture[0] == 1 {
        // A batch of grey pictures without an axis for channels.
        (height, width) = (picture[1], picture[2])
      } else if picture[0] == nil {
        // Channels that the model leaves open are those of a colour picture.
        (channels, height, width) = (3, picture[1], picture[2])
      } else {
        throw ValidationError("--image: input '\(input.name)' is \(input.type); expected an axis of 1, 3 or 4 channels")
      }
      for extent in [height, width] {
        guard extent ?? 1 > 0, extent ?? 1 <= 1 << 16 else {
          throw ValidationError("--image: input '\(input.name)' is \(input.type), which is no size of a picture")
        }
      }
    }

    func shape(height: Int, width: Int) -> Shape {
      switch rank {
      case 2: [height, width]
      case 3: isChannelsLast ? [height, width, channels] : [channels, height, width]
      default: isChannelsLast ? [1, height, width, channels] : [1, channels, height, width]
      }
    }
  }

  private static func decoded(_ file: String) throws -> Image {
    let bytes: [UInt8]
    do { bytes = [UInt8](try Data(contentsOf: URL(filePath: file))) } catch {
      throw ValidationError("--image: \(file) cannot be read: \(error.localizedDescription)")
    }
    do throws(ImageError) { return try ImageCodec.decode(bytes) } catch {
      throw ValidationError("--image: \(file): \(error)")
    }
  }

  private static func perChannel(_ values: [Double], default value: Double, _ channels: Int, _ option: String) throws -> [Double] {
    switch values.count {
    case 0: return [Double](repeating: value, count: channels)
    case 1: return [Double](repeating: values[0], count: channels)
    case channels: return values
    default: throw ValidationError("\(option): \(values.count) numbers for \(channels) channels")
    }
  }

  /// The values in the input's type; integers are rounded and clamped.
  private static func tensor(of values: [Double], _ type: DataType, _ shape: Shape, _ input: ValueDescription) throws -> Tensor {
    func integers<T: FixedWidthInteger & TensorElement>(_: T.Type) -> Tensor {
      Tensor(values.map { T(clamping: Int($0.rounded().clamped(to: -0x1p53...0x1p53))) }, shape: shape)
    }
    switch type {
    case .float32: return Tensor(values.map { Float($0) }, shape: shape)
    case .float64: return Tensor(values, shape: shape)
    case .float16: return Tensor(values.map { Float16($0) }, shape: shape)
    case .bfloat16: return Tensor(values.map { BFloat16(Float($0)) }, shape: shape)
    case .uint8: return integers(UInt8.self)
    case .int8: return integers(Int8.self)
    case .uint16: return integers(UInt16.self)
    case .int16: return integers(Int16.self)
    case .uint32: return integers(UInt32.self)
    case .int32: return integers(Int32.self)
    case .uint64: return integers(UInt64.self)
    case .int64: return integers(Int64.self)
    default: throw ValidationError("--image: input '\(input.name)' is \(input.type); expected numbers of 8 bits or more")
    }
  }
}

extension Double {
  fileprivate func clamped(to range: ClosedRange<Double>) -> Double {
    isNaN ? 0 : Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
  }
}
