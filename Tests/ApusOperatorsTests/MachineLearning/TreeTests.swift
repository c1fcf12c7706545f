// Forests: the fast way of rows through ordered trees and the general one, against a walk over the attribute lists;
// what two classes and one score become; broken forests.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TreeTests {
  /// Random trees as attribute lists of TreeEnsembleRegressor.
  struct Lists {
    var trees: [Int] = []
    var nodes: [Int] = []
    var features: [Int] = []
    var modes: [String] = []
    var values: [Float] = []
    var onTrue: [Int] = []
    var onFalse: [Int] = []
    var missing: [Int] = []
    var weights: [Float] = []
    private var state: UInt64

    init(trees: Int, depth: Int, features: Int, modes: [String], seed: UInt64) {
      state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
      for tree in 0..<trees {
        let first = nodes.count
        _ = grow(tree, first, depth, features, modes)
      }
    }

    private mutating func random(_ bound: Int) -> Int {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return Int(state >> 33) % bound
    }

    private mutating func grow(_ tree: Int, _ first: Int, _ depth: Int, _ featureCount: Int, _ names: [String]) -> Int {
      let position = nodes.count
      trees.append(tree)
      nodes.append(position - first)
      let isLeaf = depth == 0 || random(5) == 0
      modes.append(isLeaf ? "LEAF" : names[random(names.count)])
      features.append(isLeaf ? 0 : random(featureCount))
      values.append(Float(random(9)) / 2 - 2)
      missing.append(random(2))
      weights.append(isLeaf ? Float(random(64)) / 8 - 4 : 0)
      onTrue.append(0)
      onFalse.append(0)
      if !isLeaf {
        onTrue[position] = grow(tree, first, depth - 1, featureCount, names)
        onFalse[position] = grow(tree, first, depth - 1, featureCount, names)
      }
      return position - first
    }

    func score(_ row: ArraySlice<Float>) -> Float {
      var sum: Float = 0
      for root in nodes.indices where nodes[root] == 0 {
        var index = root
        while modes[index] != "LEAF" {
          let (x, t) = (row[row.startIndex + features[index]], values[index])
          let isTrue =
            switch modes[index] {
            case _ where x.isNaN: missing[index] != 0
            case "BRANCH_LEQ": x <= t
            case "BRANCH_LT": x < t
            case "BRANCH_GTE": x >= t
            case "BRANCH_GT": x > t
            case "BRANCH_EQ": x == t
            default: x != t
            }
          index = root + (isTrue ? onTrue[index] : onFalse[index])
        }
        sum += weights[index]
      }
      return sum
    }

    var attributes: [(String, AttributeValue)] {
      let leaves = modes.indices.filter { modes[$0] == "LEAF" }
      return [
        ("nodes_treeids", .ints(trees)), ("nodes_nodeids", .ints(nodes)), ("nodes_featureids", .ints(features)),
        ("nodes_modes", .strings(modes)), ("nodes_values", .floats(values)), ("nodes_truenodeids", .ints(onTrue)),
        ("nodes_falsenodeids", .ints(onFalse)), ("nodes_missing_value_tracks_true", .ints(missing)),
        ("target_treeids", .ints(leaves.map { trees[$0] })), ("target_nodeids", .ints(leaves.map { nodes[$0] })),
        ("target_ids", .ints(leaves.map { _ in 0 })), ("target_weights", .floats(leaves.map { weights[$0] })),
        ("n_targets", .int(1)),
      ]
    }
  }

  static let ordered = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"]

  @Test(arguments: [ordered, ordered + ["BRANCH_EQ", "BRANCH_NEQ"]], [1, 7, 8, 63, 65, 130])
  func walk(modes: [String], rows: Int) throws {
    for (seed, trees) in [1, 7, 9, 40].enumerated() {
      let lists = Lists(trees: trees, depth: 6, features: 4, modes: modes, seed: UInt64(seed + rows))
      let x = sampleTensor([rows, 4], seed: rows + trees).elements(as: Float.self)!.map { v -> Float in
        v > 0.9 ? .nan : (v * 5).rounded() / 2
      }
      let expected = (0..<rows).map { lists.score(x[$0 * 4..<$0 * 4 + 4]) }
      var run = OperatorRun("TreeEnsembleRegressor", domain: "ai.onnx.ml", attributes: lists.attributes)
      for threads in [1, 2] {
        run.threads = threads
        #expect(try run(Tensor(x, shape: [rows, 4]))[0].elements(as: Float.self) == expected)
        #expect(try run(Tensor(x.map { Double($0) }, shape: [rows, 4]))[0].elements(as: Float.self) == expected)
      }
    }
  }

  @Test func tooFewFeatures() throws {
    let lists = Lists(trees: 3, depth: 5, features: 4, modes: Self.ordered, seed: 5)
    let run = OperatorRun("TreeEnsembleRegressor", domain: "ai.onnx.ml", attributes: lists.attributes)
    #expect(throws: OperatorError.self) { try run(Tensor([Float(1), 2], shape: [1, 2])) }
    #expect(try run(Tensor([Float](), shape: [0, 4]))[0].shape == [0, 1])
  }

  /// One branch at 0 with weights for the first of two classes.
  static func stump(_ weights: [Float], _ transform: String, truths: [Int] = [1, 0, 0]) -> OperatorRun {
    OperatorRun(
      "TreeEnsembleClassifier", domain: "ai.onnx.ml",
      attributes: [
        ("nodes_treeids", .ints([0, 0, 0])), ("nodes_nodeids", .ints([0, 1, 2])),
        ("nodes_featureids", .ints([0, 0, 0])),
        ("nodes_modes", .strings(["BRANCH_LEQ", "LEAF", "LEAF"])), ("nodes_values", .floats([0, 0, 0])),
        ("nodes_truenodeids", .ints(truths)), ("nodes_falsenodeids", .ints([2, 0, 0])),
        ("class_treeids", .ints([0, 0])), ("class_nodeids", .ints([1, 2])), ("class_ids", .ints([0, 0])),
        ("class_weights", .floats(weights)), ("classlabels_int64s", .ints([5, 6])),
        ("post_transform", .string(transform)),
      ])
  }

  @Test func twoClasses() throws {
    let x = Tensor([Float(-1), 1], shape: [2, 1])
    var results = try Self.stump([0.25, 0.75], "NONE")(x, outputs: 2)
    #expect(results[0].elements(as: Int.self) == [5, 6])
    #expect(results[1].elements(as: Float.self) == [0.75, 0.25, 0.25, 0.75])
    results = try Self.stump([-2, 0.25], "NONE")(x, outputs: 2)
    #expect(results[0].elements(as: Int.self) == [5, 6])
    #expect(results[1].elements(as: Float.self) == [2, -2, -0.25, 0.25])
    results = try Self.stump([0, 100], "LOGISTIC")(x, outputs: 2)
    #expect(results[1].elements(as: Float.self) == [0.5, 0.5, 0, 1])
  }

  @Test(arguments: ["SUM", "AVERAGE", "MIN", "MAX"])
  func targetsWithoutLeaves(aggregate: String) throws {
    let lists: [(String, AttributeValue)] = [
      ("nodes_treeids", .ints([0])), ("nodes_nodeids", .ints([0])), ("nodes_featureids", .ints([0])),
      ("nodes_modes", .strings(["LEAF"])), ("nodes_values", .floats([0])), ("nodes_truenodeids", .ints([0])),
      ("nodes_falsenodeids", .ints([0])), ("target_treeids", .ints([0])), ("target_nodeids", .ints([0])),
      ("target_ids", .ints([1])), ("target_weights", .floats([3])), ("n_targets", .int(2)),
      ("base_values", .floats([0.5, 0.25])), ("aggregate_function", .string(aggregate)),
    ]
    let run = OperatorRun("TreeEnsembleRegressor", domain: "ai.onnx.ml", attributes: lists)
    #expect(try run(Tensor([Float(1)], shape: [1, 1]))[0].elements(as: Float.self) == [0.5, 3.25])
  }

  @Test func brokenForests() {
    // A node that is its own child, and one that does not exist.
    for truths in [[0, 0, 0], [7, 0, 0]] {
      #expect(throws: (any Error).self) {
        try Self.stump([1, 2], "NONE", truths: truths)(Tensor([Float(1)], shape: [1, 1]), outputs: 2)
      }
    }
  }
}
