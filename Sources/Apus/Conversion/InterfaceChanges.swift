// What a model takes and gives, changed for its callers: names, sizes, the order of axes, and work before and behind it
// that callers would have to do otherwise.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor

/// Changes of the inputs and outputs of a model. Inside, the model stays what it is.
package struct InterfaceChanges: Sendable {
  /// Where the channels of pictures stand.
  package enum Layout: String, Sendable { case channelsFirst = "nchw", channelsLast = "nhwc" }

  /// New names of inputs and outputs.
  package var names: [(old: String, new: String)] = []
  /// New names of symbolic extents.
  package var symbols: [(old: String, new: String)] = []
  /// Shapes of inputs by name, with symbols where extents become open.
  package var shapes: [(name: String, shape: [Dim])] = []
  /// The orders of axes of inputs and outputs by name.
  package var layouts: [(name: String, layout: Layout)] = []
  /// The order of axes of all inputs, or outputs, of rank 4 and 5.
  package var inputLayout, outputLayout: Layout?
  /// Work on pictures that comes before the model.
  package var pictures = PictureChanges()
  /// Work on scores that comes behind it.
  package var scores = ScoreChanges()

  package init() {}

  var isEmpty: Bool {
    names.isEmpty && symbols.isEmpty && shapes.isEmpty && layouts.isEmpty && inputLayout == nil && outputLayout == nil
      && pictures.isEmpty && scores.isEmpty
  }
}

/// Work on pictures before the model: numbers become (number · scale − mean) / deviation.
package struct PictureChanges: Sendable {
  /// nil: 1/255 for bytes, else 1.
  package var scale: Double?
  /// Empty, one number, or one a channel.
  package var mean: [Double] = []
  package var deviation: [Double] = []
  /// Whether pictures come as bytes.
  package var takesBytes = false
  /// Whether pictures come in any size, and are brought to that of the model.
  package var takesAnySize = false
  /// The inputs that are pictures; empty: all of rank 4 with 1, 3 or 4 channels.
  package var inputs: [String] = []

  package init() {}

  var isEmpty: Bool { !changesNumbers && !takesBytes && !takesAnySize }
  var changesNumbers: Bool { scale != nil || !mean.isEmpty || !deviation.isEmpty }
}

/// Work on scores behind the model.
package struct ScoreChanges: Sendable {
  /// Whether scores become probabilities, by Softmax over the last axis.
  package var softmax = false
  /// So many of the largest, with their indices as another output.
  package var top: Int?
  /// The output that holds the scores; nil: the first.
  package var output: String?

  package init() {}

  var isEmpty: Bool { !softmax && top == nil }
}

extension InterfaceChanges {
  /// The graph with these changes. Throws `LoadError` for a name that the graph does not have, or where a change does
  /// not fit what it is for.
  package func apply(to graph: Graph) throws(LoadError) -> Graph {
    if isEmpty { return graph }
    let before = graph
    var graph = graph
    let isResized = try resize(&graph)
    do throws(OperatorError) {
      let inference = InferenceDriver(registry: .standard)
      let editor = InterfaceEditor(GraphBuilder(rewriting: graph, inference: inference))
      try layOut(editor, graph.inputs, inputLayout, "input", of: before)
      try editor.prepend(pictures)
      for node in graph.nodes { try editor.builder.append(isResized ? editor.followingBatch(node, before) : node) }
      try layOut(editor, graph.outputs, outputLayout, "output", of: before)
      try editor.append(scores)
      graph = editor.finish()
    } catch {
      let path = error.path.isEmpty ? nil : error.path.joined(separator: " › ")
      throw LoadError(.unsupported, error.message, remedy: error.remedy, path: path)
    }
    try rename(&graph)
    return graph
  }

  // MARK: - Sizes

  /// Gives extents other names, and inputs other shapes; true if shapes of inner values are to be found anew.
  private func resize(_ graph: inout Graph) throws(LoadError) -> Bool {
    if symbols.isEmpty, shapes.isEmpty { return false }
    let known = Set(graph.inputs.flatMap { graph.fact($0).tensor?.shape?.flatMap(\.symbols) ?? [] })
    var renamed: [String: Dim] = [:]
    for (old, new) in symbols {
      guard known.contains(old) else {
        throw LoadError(
          .unsupported, "no input has a dimension '\(old)'",
          remedy: known.isEmpty
            ? "The model has no symbolic dimensions" : "Known are: \(known.sorted().joined(separator: ", "))")
      }
      renamed[old] = .symbol(new)
    }
    let constants = graph.values.map { $0.constant != nil }
    for index in graph.values.indices where !constants[index] {
      let isInput = graph.inputs.contains(ValueID(index))
      graph.values[index].fact = isInput ? graph.values[index].fact.substituting(renamed) : .unknown
    }
    graph.inputDeclarations = graph.inputDeclarations.map { $0.substituting(renamed) }
    graph.outputDeclarations = []
    for (name, shape) in shapes {
      guard let position = graph.inputs.firstIndex(where: { graph[$0].name == name }),
        let fact = graph.fact(graph.inputs[position]).tensor
      else { throw missing("input", name, graph.inputs.map { graph[$0].name }) }
      if let declared = fact.shape, declared.count != shape.count {
        throw LoadError(
          .unsupported, "input '\(name)' has \(declared.count) axes; \(shape.count) extents were given",
          remedy: "Its shape is \(declared)")
      }
      graph[graph.inputs[position]].fact = .tensor(fact.dataType, shape)
      if graph.inputDeclarations.indices.contains(position) {
        graph.inputDeclarations[position] = .tensor(fact.dataType, shape)
      }
    }
    return true
  }

  private func missing(_ what: String, _ name: String, _ known: [String]) -> LoadError {
    let names = known.map { "'\($0)'" }.joined(separator: ", ")
    return LoadError(.unsupported, "there is no \(what) '\(name)'", remedy: "There are \(names)")
  }

  // MARK: - Axes

  private func layOut(
    _ editor: InterfaceEditor, _ ends: [ValueID], _ common: Layout?, _ what: String, of before: Graph
  ) throws(OperatorError) {
    let graph = editor.builder.graph
    var isDone = common == nil
    for (position, value) in ends.enumerated() {
      let named = layouts.last { $0.name == graph[value].name }?.layout
      guard let layout = named ?? common, let shape = editor.builder.shape(value) else { continue }
      guard (4...5).contains(shape.count) else {
        if named == nil { continue }
        throw .unsupported("\(what) '\(graph[value].name)' has \(shape.count) axes; pictures have 4 or 5")
      }
      isDone = true
      // What shows the wanted order already stays: an operator that takes channels behind the batch, or the extents.
      let known = Self.isOfChannelsFirst(value, before) ? .channelsFirst : Self.layout(of: shape)
      if named == nil, known == layout { continue }
      try what == "input"
        ? editor.layOutInput(at: position, layout) : editor.layOutOutput(at: position, layout)
    }
    if !isDone {
      throw .unsupported("no \(what) has 4 or 5 axes, as pictures have", remedy: "Leave out the option for \(what)s")
    }
  }

  /// Whether an operator of pictures reads or makes the value, all of which have the channels behind the batch.
  private static func isOfChannelsFirst(_ value: ValueID, _ graph: Graph) -> Bool {
    graph.nodes.contains { node in
      pictureOperators.contains(node.op.description)
        && (node.inputs.first == .some(value) || node.outputs.first == .some(value))
    }
  }

  private static let pictureOperators: Set<String> = [
    "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "MaxPool", "AveragePool", "LpPool",
    "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN",
    "DepthToSpace", "SpaceToDepth", "GridSample",
  ]

  /// The order of axes that extents show: 1, 3 or 4 channels on one side only.
  static func layout(of shape: [Dim]) -> Layout? {
    func isChannels(_ dim: Dim) -> Bool { dim.known.map { [1, 3, 4].contains($0) } ?? false }
    guard shape.count >= 4, isChannels(shape[1]) != isChannels(shape[shape.count - 1]) else { return nil }
    return isChannels(shape[1]) ? .channelsFirst : .channelsLast
  }

  // MARK: - Names

  private func rename(_ graph: inout Graph) throws(LoadError) {
    for (old, new) in names {
      let ends = graph.inputs + graph.outputs
      let found = ends.filter { graph[$0].name == old }
      if found.isEmpty {
        let known = ends.map { "'\(graph[$0].name)'" }.joined(separator: ", ")
        throw LoadError(
          .unsupported, "there is no input or output '\(old)' to give the name '\(new)'", remedy: "There are \(known)")
      }
      if ends.contains(where: { graph[$0].name == new }) {
        throw LoadError(.unsupported, "an input or output has the name '\(new)' already, which '\(old)' should get")
      }
      for index in graph.values.indices where graph.values[index].name == new { graph.values[index].name = "" }
      for value in Set(found) { graph[value].name = new }
    }
    for (name, _) in layouts where !(graph.inputs + graph.outputs).contains(where: { graph[$0].name == name }) {
      let isRenamed = names.contains { $0.old == name }
      if !isRenamed { throw missing("input or output", name, (graph.inputs + graph.outputs).map { graph[$0].name }) }
    }
  }
}
