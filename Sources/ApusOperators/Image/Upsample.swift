// Upsample: the deprecated predecessor of Resize, which takes its place while a file is read.
// https://onnx.ai/onnx/operators/onnx__Upsample.html
// Versions: 1 (height_scale, width_scale), 7 (scales as attribute), 9 (scales as input), 10 (deprecated).

import ApusGraph
import ApusTensor

struct Upsample: ImportRule {
  let schema = OperatorSchema(
    "Upsample", versions: [1, 7, 9, 10],
    inputs: [.required("X", "T"), .required("scales", "tensor(float)", readWhenPlanning: true)],
    outputs: [.required("Y", "T")],
    attributes: [.string("mode", default: "nearest")],
    types: ["T": .allBeforeBFloat16, "tensor(float)": [.float32]])

  let readAs = "Resize"

  func emit(_ node: Node, from version: Int, into builder: GraphBuilder) throws(OperatorError) {
    var node = node
    if version == 1 {
      guard case .float(let height)? = node.attributes.remove("height_scale"),
        case .float(let width)? = node.attributes.remove("width_scale")
      else { throw .invalid("the attributes height_scale and width_scale (float) are missing") }
      node.inputs.append(builder.addConstant(Tensor([1, 1, height, width] as [Float])))
    } else if version == 7 {
      guard case .floats(let scales)? = node.attributes.remove("scales") else {
        throw .invalid("attribute scales (floats) is missing")
      }
      node.inputs.append(builder.addConstant(Tensor(scales)))
    }
    guard node.inputs.count == 2 else { throw .invalid("input 1 (scales) is missing") }
    node.op = OperatorID("Resize")
    node.inputs = [node.inputs[0], nil, node.inputs[1]]
    if node.attributes.string("mode") == "bilinear" { node.attributes["mode"] = .string("linear") }
    node.attributes["coordinate_transformation_mode"] = .string("asymmetric")
    node.attributes["nearest_mode"] = .string("floor")
    try builder.append(node)
  }
}
