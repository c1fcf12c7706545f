// Resize of some axes, as operator sets before 18 have it: of all axes, where those that it does not name keep what
// they have. https://onnx.ai/onnx/operators/onnx__Resize.html

import ApusGraph
import ApusTensor

/// How Resize is taken apart.
enum ResizeDecomposition {
  static let rule: Decomposition.Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let rank = try work.rank(x)
    // A policy takes its scale from the named axes only.
    guard let axes = work.node.attributes.ints("axes"),
      work.node.attributes.string("keep_aspect_ratio_policy") ?? "stretch" == "stretch"
    else { throw .unsupported("there are no axes to write out") }
    let named = axes.map { $0 < 0 ? $0 + rank : $0 }
    guard named.allSatisfy({ (0..<rank).contains($0) }), Set(named).count == named.count else {
      throw .invalid("attribute axes is \(axes); expected different axes of a tensor of \(rank)")
    }
    /// For each axis its place among those named, else `other`.
    func places(_ other: (Int) -> Int) -> [Int] { (0..<rank).map { named.firstIndex(of: $0) ?? other($0) } }

    var inputs: [ValueID?] = [x, nil, nil, nil]
    if let region = try work.given(1), work.node.attributes.string(coordinates) == "tf_crop_and_resize" {
      // All starts, then all ends; all of an axis is from 0 to 1.
      let limits = try work.cast(work.builder.addConstant(Tensor([0, 1] as [Float])), to: work.type(region))
      let (starts, ends) = (places { _ in 2 * named.count }, places { _ in named.count + 1 })
      inputs[1] = try work.spread(region, limits, starts + ends.map { named.count + $0 })
    }
    if let scales = try work.given(2) {
      let one = work.builder.addConstant(Tensor([1] as [Float]))
      inputs[2] = try work.spread(scales, one, places { _ in named.count })
    }
    if let sizes = try work.given(3) {
      let isKnown = work.builder.shape(x)?.concrete != nil
      let extents = try isKnown ? work.extents(x, 0..<rank) : work.add("Shape", x)
      inputs[3] = try work.spread(sizes, extents, places { named.count + $0 })
    }
    while inputs.last == .some(nil) { inputs.removeLast() }
    let attributes = work.node.attributes.entries.filter { $0.name != "axes" }.map { ($0.name, $0.value) }
    return [try work.add("Resize", inputs: inputs, attributes: attributes)]
  }

  private static let coordinates = "coordinate_transformation_mode"
}

extension Decomposition {
  /// An optional input of a list; nil if it is absent or empty.
  fileprivate func given(_ position: Int) throws(OperatorError) -> ValueID? {
    guard isPresent(position) else { return nil }
    let value = try input(position)
    guard let shape = builder.shape(value), shape.count == 1, let count = shape[0].known else {
      throw .unsupported("it is not known whether input \(position) is empty")
    }
    return count == 0 ? nil : value
  }

  /// The elements at `places` of a list with another behind it; a constant if both are.
  fileprivate mutating func spread(
    _ list: ValueID, _ rest: ValueID, _ places: [Int]
  ) throws(OperatorError) -> ValueID {
    if let first = builder.constant(list), let second = builder.constant(rest) {
      if let a = first.elements(as: Float.self), let b = second.elements(as: Float.self) {
        return builder.addConstant(Tensor(try Self.chosen(a + b, places)))
      }
      if let a = first.elements(as: Int64.self), let b = second.elements(as: Int64.self) {
        return builder.addConstant(Tensor(try Self.chosen(a + b, places)))
      }
    }
    let all = try add("Concat", list, rest, attributes: [("axis", .int(0))])
    return try add("Gather", all, integers(places), attributes: [("axis", .int(0))])
  }

  private static func chosen<Element>(_ list: [Element], _ places: [Int]) throws(OperatorError) -> [Element] {
    guard places.allSatisfy(list.indices.contains) else {
      throw .invalid("a list has \(list.count) elements; expected one for each of the axes")
    }
    return places.map { list[$0] }
  }
}
