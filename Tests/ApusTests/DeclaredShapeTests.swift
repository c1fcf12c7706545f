// What a file declares of values that depend on data is a hint: no rewrite and no plan rests on it.

import Apus
import ApusFormats
import ApusGraph
import Foundation
import Testing

@Suite struct DeclaredShapeTests {
  private func info(_ name: String, _ type: DataType, _ shape: [TypeProto.Dimension]?) -> ValueInfoProto {
    ValueInfoProto(name: name, type: .tensor(elementType: type.rawValue, shape: shape))
  }

  /// Compress(x, b), which is declared as `shape`, expanded to the shape of x.
  private func compressing(_ shape: [TypeProto.Dimension], isOutput: Bool) throws -> Model {
    var graph = GraphProto()
    graph.inputs = [info("x", .float32, [.parameter("n")]), info("b", .bool, [.parameter("n")])]
    let nodes: [(String, [String], String)] = [
      ("Compress", ["x", "b"], "c"), ("Shape", ["x"], "s"), ("Expand", ["c", "s"], "e"), ("Add", ["x", "c"], "a"),
    ]
    for (op, inputs, output) in nodes {
      var node = NodeProto()
      (node.opType, node.inputs, node.outputs) = (op, inputs, [output])
      graph.nodes.append(node)
    }
    graph.outputs = [info("e", .float32, nil), info("a", .float32, [.parameter("n")])]
    if isOutput {
      graph.outputs.append(info("c", .float32, shape))
    } else {
      graph.valueInfo = [info("c", .float32, shape)]
    }
    var proto = ModelProto()
    proto.irVersion = 8
    proto.opsetImport = [OperatorSetID(domain: "", version: 17)]
    proto.graph = graph
    return try Model(bytes: proto.encoded, options: ModelOptions(threads: 1))
  }

  @Test(arguments: [false, true]) func symbolsAndNumbersAreNotBelieved(_ isOutput: Bool) throws {
    for shape: TypeProto.Dimension in [.parameter("n"), .value(4), .value(1), .value(3), .unknown] {
      let model = try compressing([shape], isOutput: isOutput)
      let x = Tensor([5, 6, 7, 8] as [Float])
      let results = try model.run(["x": x, "b": Tensor([false, true, false, false])])
      #expect(results["e"]?.elements(as: Float.self) == [6, 6, 6, 6])
      #expect(results["a"]?.elements(as: Float.self) == [11, 12, 13, 14])
    }
  }

  @Test func declaredOutputsAreStillDescribed() throws {
    let model = try compressing([.parameter("kept")], isOutput: true)
    #expect(model.outputs.first { $0.name == "c" }?.dimensions == ["kept"])
  }
}
