// Pictures as inputs: decoded, resized to the input's height and width, put into its layout and type.

import Apus
import ArgumentParser

/// How bytes of a picture become numbers: (byte · scale − mean) / deviation.
struct ImageScaling {
  /// nil: 1/255 for float inputs, 1 for integers.
  var scale: Double?
  /// Empty, one number, or one a channel.
  var mean: [Double]
  var deviation: [Double]
}

enum ImageInput {
  static func tensor(file: String, for input: ValueDescription, scaling: ImageScaling) throws -> Tensor {
    throw ValidationError("pictures cannot be read yet")
  }
}
