// Pictures as inputs: decoded, brought to the input's height and width, put into its layout and type.

import Apus
import ApusFormats
import ApusImage
import ArgumentParser

/// How a picture comes to a shape that is not its own.
enum ImageFit: String, ExpressibleByArgument, CaseIterable { case stretch, crop, pad }

/// How a picture comes to a shape, and how its bytes become numbers: (byte · scale − mean) / deviation.
struct ImageScaling {
  var fit: ImageFit
  /// The byte around a picture that is padded.
  var padding: UInt8
  /// nil: 1/255 for float inputs, 1 for integers.
  var scale: Double?
  /// Empty, one number, or one a channel.
  var mean: [Double]
  var deviation: [Double]
  /// What the picture was named by, for messages.
  var option = "--image"
}

enum ImageInput {
  /// The picture in the layout of `input`: NCHW, NHWC, CHW, HWC or HW, whichever has an axis of 1, 3 or 4 channels. A
  /// symbolic batch is 1; a symbolic height or width is the picture's own.
  static func tensor(file: String, for input: ValueDescription, scaling: ImageScaling) throws -> Tensor {
    let option = scaling.option
    guard let dataType = input.dataType, let dimensions = input.dimensions else {
      throw InputError("\(option): input '\(input.name)' is \(input.type); expected a tensor of known rank")
    }
    let layout = try Layout(dimensions.map { Int($0) }, input, option)
    let scale = scaling.scale ?? (dataType.isFloat ? 1.0 / 255 : 1)
    let mean = try perChannel(scaling.mean, default: 0, layout.channels, "--mean")
    let deviation = try perChannel(scaling.deviation, default: 1, layout.channels, "--std")
    // What each byte becomes, by channel.
    let table = (0..<layout.channels).map { channel in
      (0...255).map { byte in (Double(byte) * scale - mean[channel]) / deviation[channel] }
    }
    let source = try decoded(file, option).converted(toChannels: layout.channels)
    let (height, width) = (layout.height ?? source.height, layout.width ?? source.width)
    try ImageInput.check(height: height, width: width, input, option)
    let shape = layout.shape(height: height, width: width)
    // The numbers twice, while they are made a tensor, and the bytes.
    try MemoryRoom.require(
      shape.elementCount * (dataType.bits / 4 + 2), for: "\(option): input '\(input.name)' (\(input.type))")
    let image: Image =
      switch scaling.fit {
      case .stretch: source.resized(height: height, width: width)
      case .crop: source.covering(height: height, width: width)
      case .pad: source.padded(height: height, width: width, with: scaling.padding)
      }
    return try tensor(image, layout, table, dataType, shape, input, option)
  }

  private static func check(height: Int, width: Int, _ input: ValueDescription, _ option: String) throws {
    do throws(ImageError) { try ImageLimits().check(width: width, height: height) } catch {
      throw InputError("\(option): input '\(input.name)' is \(input.type): \(error)")
    }
  }

  /// Which axes of a shape are height, width and channels.
  private struct Layout {
    var rank: Int
    var channels = 1
    var isChannelsLast = false
    /// nil: any.
    var height: Int?
    var width: Int?

    init(_ dims: [Int?], _ input: ValueDescription, _ option: String) throws {
      rank = dims.count
      guard (2...4).contains(rank), rank < 4 || dims[0] ?? 1 == 1 else {
        throw InputError("\(option): input '\(input.name)' is \(input.type); expected one picture of rank 2 to 4")
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
        throw InputError("\(option): input '\(input.name)' is \(input.type); expected an axis of 1, 3 or 4 channels")
      }
      for extent in [height, width] {
        guard extent ?? 1 > 0, extent ?? 1 <= 1 << 16 else {
          throw InputError("\(option): input '\(input.name)' is \(input.type), which is no size of a picture")
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

  /// The picture in a file, as it is.
  static func decoded(_ file: String, _ option: String) throws -> Image {
    let content = try FileBytes.open(path: file)
    let bytes = content.withBytes { bytes in bytes.indices.map { bytes[$0] } }
    do throws(ImageError) { return try ImageCodec.decode(bytes) } catch {
      throw InputError("\(option): \(file): \(error)")
    }
  }

  private static func perChannel(_ values: [Double], default value: Double, _ channels: Int, _ option: String) throws
    -> [Double]
  {
    switch values.count {
    case 0: return [Double](repeating: value, count: channels)
    case 1: return [Double](repeating: values[0], count: channels)
    case channels: return values
    default: throw InputError("\(option): \(values.count) numbers for \(channels) channels")
    }
  }

  /// The picture's samples, as `table` has them, in the input's layout and type; integers are rounded and clamped.
  private static func tensor(
    _ image: Image, _ layout: Layout, _ table: [[Double]], _ type: DataType, _ shape: Shape, _ input: ValueDescription,
    _ option: String
  ) throws -> Tensor {
    func filled<T: TensorElement>(_ convert: (Double) -> T) -> Tensor {
      let table = table.map { $0.map(convert) }
      var values = [T](repeating: table[0][0], count: shape.elementCount)
      let area = image.height * image.width
      for channel in 0..<layout.channels {
        let row = table[channel]
        let (start, stride) = layout.isChannelsLast ? (channel, layout.channels) : (channel * area, 1)
        for pixel in 0..<area {
          values[start + pixel * stride] = row[Int(image.pixels[pixel * layout.channels + channel])]
        }
      }
      return Tensor(values, shape: shape)
    }
    func integers<T: FixedWidthInteger & TensorElement>(_: T.Type) -> Tensor {
      filled { T(clamping: Int($0.rounded().clamped(to: -0x1p53...0x1p53))) }
    }
    switch type {
    case .float32: return filled { Float($0) }
    case .float64: return filled { $0 }
    case .float16: return filled { Float16($0) }
    case .bfloat16: return filled { BFloat16(Float($0)) }
    case .uint8: return integers(UInt8.self)
    case .int8: return integers(Int8.self)
    case .uint16: return integers(UInt16.self)
    case .int16: return integers(Int16.self)
    case .uint32: return integers(UInt32.self)
    case .int32: return integers(Int32.self)
    case .uint64: return integers(UInt64.self)
    case .int64: return integers(Int64.self)
    default: throw InputError("\(option): input '\(input.name)' is \(input.type); expected numbers of 8 bits or more")
    }
  }
}

extension Double {
  fileprivate func clamped(to range: ClosedRange<Double>) -> Double {
    isNaN ? 0 : Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
  }
}
