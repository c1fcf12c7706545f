// Attributes of operators that need more than one value of the right kind for each required attribute.

import ApusGraph
import ApusTensor

extension KernelProbe {
  /// Attributes by operator; further ones with the same names as required ones replace those.
  static let examples: [OperatorID: [(String, AttributeValue)]] = [
    OperatorID("BitShift"): [("direction", .string("LEFT"))],
    OperatorID("Loop"): [("body", .graph(loopBody))],
    OperatorID("Scan"): [("body", .graph(identityBody)), ("num_scan_inputs", .int(1))],
    OperatorID("RegexFullMatch"): [("pattern", .string("a"))],
    OperatorID("TfIdfVectorizer"): [
      ("mode", .string("TF")), ("min_gram_length", .int(1)), ("max_gram_length", .int(1)), ("max_skip_count", .int(0)),
      ("ngram_counts", .ints([0])), ("ngram_indexes", .ints([0])), ("pool_int64s", .ints([1])),
    ],
    learning("DictVectorizer"): [("string_vocabulary", .strings(["a"]))],
    learning("Imputer"): [("imputed_value_floats", .floats([0])), ("imputed_value_int64s", .ints([0]))],
    learning("LabelEncoder"): [("keys_int64s", .ints([1])), ("values_int64s", .ints([1]))],
    learning("LinearClassifier"): [
      ("coefficients", .floats([1, 1])), ("intercepts", .floats([0, 0])), ("classlabels_ints", .ints([0, 1])),
    ],
    learning("OneHotEncoder"): [("cats_int64s", .ints([1]))],
    learning("SVMClassifier"): [
      ("coefficients", .floats([1, 1])), ("rho", .floats([0])), ("classlabels_ints", .ints([0, 1])),
    ],
    learning("SVMRegressor"): [("coefficients", .floats([1])), ("rho", .floats([0]))],
    learning("TreeEnsemble"): [
      ("tree_roots", .ints([0])), ("nodes_featureids", .ints([0])), ("nodes_modes", .tensor(Tensor([0] as [UInt8]))),
      ("nodes_splits", .tensor(Tensor([0] as [Float]))), ("nodes_truenodeids", .ints([0])),
      ("nodes_falsenodeids", .ints([1])), ("nodes_trueleafs", .ints([1])), ("nodes_falseleafs", .ints([1])),
      ("leaf_targetids", .ints([0, 0])), ("leaf_weights", .tensor(Tensor([0, 1] as [Float]))),
    ],
    learning("TreeEnsembleClassifier"): oldTree + [
      ("class_treeids", .ints([0])), ("class_nodeids", .ints([0])), ("class_ids", .ints([0])),
      ("class_weights", .floats([1])), ("classlabels_int64s", .ints([0, 1])),
    ],
    learning("TreeEnsembleRegressor"): oldTree + [
      ("target_treeids", .ints([0])), ("target_nodeids", .ints([0])), ("target_ids", .ints([0])),
      ("target_weights", .floats([1])), ("n_targets", .int(1)),
    ],
    learning("ZipMap"): [("classlabels_int64s", .ints([0]))],
    OperatorID("Momentum", domain: "ai.onnx.preview.training"): [("mode", .string("standard"))],
    OperatorID("MatMulNBits", domain: "com.microsoft"): bits,
    OperatorID("MatMulNBits", domain: OperatorID.engineDomain): bits,
    OperatorID("Tokenizer", domain: "com.microsoft"): [("mincharnum", .int(1)), ("separators", .strings([" "]))],
    OperatorID("BeamSearch", domain: "com.microsoft"): [("decoder", .graph(decoder))],
    OperatorID("GreedySearch", domain: "com.microsoft"): [("decoder", .graph(decoder))],
    OperatorID("Sampling", domain: "com.microsoft"): [("decoder", .graph(decoder))],
    OperatorID("WhisperBeamSearch", domain: "com.microsoft"): [("decoder", .graph(decoder)), ("model_type", .int(0))],
  ]

  private static let bits: [(String, AttributeValue)] = [
    ("K", .int(16)), ("N", .int(1)), ("bits", .int(4)), ("block_size", .int(16)),
  ]

  /// A decoder whose logits never change, and that gives its cache back as it is.
  private static let decoder: Subgraph = {
    var graph = Graph()
    for _ in 0..<3 { graph.inputs.append(graph.addValue(fact: .tensor(.int32, [.unknown, .unknown]))) }
    let logits = graph.addConstant(Tensor([0, 0, 0, 0] as [Float], shape: [1, 1, 4]))
    graph.inputs.append(graph.addValue(fact: .tensor(.float32, [2, .unknown, 1, .unknown, 1])))
    graph.outputs = [logits, graph.inputs[3]]
    return Subgraph(graph: graph, captured: [])
  }()

  private static func learning(_ name: String) -> OperatorID { OperatorID(name, domain: "ai.onnx.ml") }

  /// One leaf.
  private static let oldTree: [(String, AttributeValue)] = [
    ("nodes_treeids", .ints([0])), ("nodes_nodeids", .ints([0])), ("nodes_featureids", .ints([0])),
    ("nodes_values", .floats([0])), ("nodes_modes", .strings(["LEAF"])), ("nodes_truenodeids", .ints([0])),
    ("nodes_falsenodeids", .ints([0])),
  ]

  /// Hands the condition and one value on.
  private static let loopBody: Subgraph = {
    var graph = Graph()
    graph.inputs = [
      graph.addValue(fact: .tensor(.int64, [])), graph.addValue(fact: .tensor(.bool, [])),
      graph.addValue(fact: .tensor(.float32, nil)),
    ]
    graph.outputs = Array(graph.inputs.dropFirst())
    return Subgraph(graph: graph, captured: [])
  }()

  private static let identityBody: Subgraph = {
    var graph = Graph()
    graph.inputs = [graph.addValue(fact: .tensor(.float32, nil))]
    graph.outputs = graph.inputs
    return Subgraph(graph: graph, captured: [])
  }()
}
