// The values that the attributes of Gradient name.
// https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Gradient.html

import ApusGraph

extension ONNXImporter {
  /// The values named by xs, zs and y, in this order. A name without a value is a problem.
  func namedValues(
    _ attributes: Attributes, _ scope: NameScope, _ path: [String]
  ) throws(LoadError) -> [ValueID?] {
    var values: [ValueID?] = []
    for attribute in ["xs", "zs", "y"] {
      for name in attributes.strings(attribute) ?? attributes.string(attribute).map({ [$0] }) ?? [] {
        if case .value(let value)? = scope.lookup(name) {
          values.append(value)
        } else {
          try report(path, "attribute \(attribute) names '\(name)', which is defined nowhere")
        }
      }
    }
    return values
  }
}
