// ImageDecoder: the pixels of an encoded picture. https://onnx.ai/onnx/operators/onnx__ImageDecoder.html
// Versions: 20.

import ApusGraph
import ApusImage
import ApusTensor

struct ImageDecoder: OperatorDefinition {
  let schema = OperatorSchema(
    "ImageDecoder", versions: [20],
    inputs: [.required("encoded_stream", "T1")],
    outputs: [.required("image", "T2")],
    attributes: [.string("pixel_format", default: "RGB")],
    types: ["T1": [.uint8], "T2": [.uint8]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let rank = context.rank(0), rank != 1 {
      throw .mismatch("the encoded stream has rank \(rank); expected 1")
    }
    context.set(0, .uint8, [.unknown, .unknown, Dim(try ImageDecoder.format(context) == "Grayscale" ? 1 : 3)])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let format = try ImageDecoder.format(context)
    return .eager { (inputs, context) throws(OperatorError) in
      guard let bytes = try inputs.tensor(0).elements(as: UInt8.self) else {
        throw .mismatch("the stream is not uint8")
      }
      let channels = format == "Grayscale" ? 1 : 3
      let decoded: Image
      do throws(ImageError) { decoded = try ImageCodec.decode(bytes) } catch {
        if error.kind == .unavailable { throw .unsupported(error.description) }
        // What cannot be decoded gives an empty picture, as the specification says.
        return [.tensor(Tensor([UInt8](), shape: [0, 0, channels]))]
      }
      try context.check(allocating: decoded.height * decoded.width * channels)
      let image = decoded.converted(toChannels: channels)
      let ordered = format == "BGR" ? image.swappingRedAndBlue() : image
      return [.tensor(Tensor(ordered.pixels, shape: [image.height, image.width, channels]))]
    }
  }

  private static func format(_ context: some OperatorContext) throws(OperatorError) -> String {
    try context.string("pixel_format", oneOf: ["RGB", "BGR", "Grayscale"])
  }
}
