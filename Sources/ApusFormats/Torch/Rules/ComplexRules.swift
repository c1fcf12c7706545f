// Complex numbers of PyTorch: pairs on a last axis. Most operators work on the real and on the imaginary parts alike.

import ApusGraph
import ApusTensor

extension TorchRules {
  /// What reads or gives complex numbers and is not the same for both parts. Values are pairs.
  static let complexTable: [String: TorchRule] = [
    "view_as_real": pairsThemselves, "view_as_complex": pairsThemselves, "real": part(0), "imag": part(1),
    "abs": magnitude, "absolute": magnitude, "angle": angle, "_conj": conjugate, "conj": conjugate,
    "conj_physical": conjugate, "_conj_physical": conjugate, "complex": complexOfParts, "polar": complexOfAngle,
    "mul": complexMul, "multiply": complexMul, "div": complexDiv, "true_divide": complexDiv, "divide": complexDiv,
    "add": complexSum("Add"), "sub": complexSum("Sub"), "subtract": complexSum("Sub"), "to": asComplex,
    "_to_copy": asComplex, "convert_element_type": asComplex, "exp": complexExp,
  ].merging(fourierTable.filter { !$0.key.hasSuffix("shift") }) { first, _ in first }

  /// Operators that do the same with real and imaginary parts.
  static let linear: Set<String> = Set(movementTable.keys).union(viewTable.keys).union(partTable.keys).union([
    "neg", "negative", "sum", "mean", "index", "_unsafe_index", "index_select", "gather", "index_put", "where",
    "masked_fill", "zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "fft_fftshift",
    "fft_ifftshift", "cumsum", "diag", "scatter_add", "index_add", "slice_scatter", "select_scatter",
  ])

  /// Products, which are linear in each of their complex operands.
  static let products: Set<String> = ["matmul", "mm", "bmm", "mv", "einsum", "linear", "dot", "outer"]

  /// True if the frame of complex numbers has a way for the operator.
  static func readsComplex(_ op: TorchOperator) -> Bool {
    complexTable[op.rule] != nil || linear.contains(op.rule) || products.contains(op.rule)
  }

  private static func pairsThemselves(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.tensor(at: 0)]
  }

  private static func part(_ index: Int) -> TorchRule {
    { (call) throws(OperatorError) in [try call.layers.part(index, ofPairs: try call.tensor(at: 0))] }
  }

  private static func magnitude(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.magnitude(ofPairs: try call.tensor(at: 0))]
  }

  private static func angle(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try call.tensor(at: 0))
    return [try layers.arcTangent(try layers.part(1, ofPairs: value), try layers.part(0, ofPairs: value))]
  }

  private static func conjugate(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try call.tensor(at: 0))
    let signs = try layers.cast(layers.constant(Tensor([1.0, -1.0])), to: layers.type(value) ?? .float32)
    return [try layers.emit("Mul", [value, signs])]
  }

  private static func complexOfParts(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (real, imaginary) = (try call.tensor("real"), try call.tensor("imag"))
    guard try call.layers.shape(real) == call.layers.shape(imaginary) else {
      throw .unsupported("parts of several shapes")
    }
    return [try call.layers.pairs(real, imaginary)]
  }

  private static func complexOfAngle(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, length, angle) = (call.layers, try call.tensor("abs"), try call.tensor("angle"))
    return [
      try layers.pairs(
        layers.emit("Mul", [length, layers.emit("Cos", [angle])]),
        layers.emit("Mul", [length, layers.emit("Sin", [angle])]))
    ]
  }

  /// exp(a) (cos b + i sin b).
  private static func complexExp(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try call.tensor(at: 0))
    let length = try layers.emit("Exp", [try layers.part(0, ofPairs: value)])
    let angle = try layers.part(1, ofPairs: value)
    return [
      try layers.pairs(
        layers.emit("Mul", [length, layers.emit("Cos", [angle])]),
        layers.emit("Mul", [length, layers.emit("Sin", [angle])]))
    ]
  }

  /// A cast: real numbers become pairs, and pairs lose their imaginary parts.
  private static func asComplex(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try call.tensor(at: 0))
    let name = call.node.inputs.first?.name ?? "self"
    guard call.result()?.dataType?.isComplex ?? false else {
      return [try call.isComplex(name) ? layers.part(0, ofPairs: value) : value]
    }
    if call.isComplex(name) { return [value] }
    return [try layers.pairs(ofReal: layers.cast(value, to: try call.resultType()))]
  }

  // MARK: - Arithmetic

  /// An operand that is complex as pairs; a real one, or a number, with a last axis of one.
  private static func factor(_ name: String, _ call: TorchCall) throws(OperatorError) -> ValueID {
    if call.isComplex(name) { return try call.tensor(name) }
    let value = try call.operand(name, as: try call.resultType())
    return try call.layers.unsqueeze(value, [try call.layers.rank(value)])
  }

  /// Pairs behind new axes, so that they broadcast as the numbers do.
  private static func complexMul(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (a, b) = (try factor("self", call), try factor("other", call))
    if call.isComplex("self"), call.isComplex("other") { return [try call.layers.complexProduct(a, b)] }
    return [try call.layers.emit("Mul", [a, b])]
  }

  private static func complexDiv(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    if call.has("rounding_mode") { throw .invalid("a quotient of complex numbers is not rounded") }
    let (layers, a, b) = (call.layers, try factor("self", call), try factor("other", call))
    if !call.isComplex("other") { return [try layers.emit("Div", [a, b])] }
    let signs = try layers.cast(layers.constant(Tensor([1.0, -1.0])), to: layers.type(b) ?? .float32)
    let conjugate = try layers.emit("Mul", [b, signs])
    let product =
      try call.isComplex("self") ? layers.complexProduct(a, conjugate) : layers.emit("Mul", [a, conjugate])
    let last = try layers.rank(b) - 1
    let square = try layers.reduce("ReduceSumSquare", b, axes: [last], keepsAxes: true)
    return [try layers.emit("Div", [product, square])]
  }

  private static func complexSum(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let layers = call.layers
      var operands: [ValueID] = []
      for name in ["self", "other"] {
        if call.isComplex(name) {
          operands.append(try call.tensor(name))
        } else {
          operands.append(try layers.pairs(ofReal: call.operand(name, as: try call.resultType())))
        }
      }
      if let alpha = try call.number("alpha"), alpha.real != 1 {
        operands[1] = try layers.emit("Mul", [operands[1], try call.constant(alpha, try call.resultType())])
      }
      return [try layers.emit(op, operands)]
    }
  }
}

extension TorchCall {
  /// True if the program says that an argument is a tensor of complex numbers.
  func isComplex(_ name: String) -> Bool { meta(name)?.dataType?.isComplex ?? false }
}

extension TorchLowering {
  /// True if an operand or a result of a node is complex.
  func isComplex(_ node: TorchNode) -> Bool {
    let names = node.inputs.flatMap(\.value.names) + node.outputs.flatMap(\.names)
    return names.contains { graph.tensors[$0]?.dataType?.isComplex ?? false }
  }

  /// The results of a node with complex operands or results; those are pairs.
  func makeComplex(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let rule = call.op.rule
    if let make = TorchRules.complexTable[rule] { return try make(call) }
    let complex = Set(
      call.node.inputs.flatMap(\.value.names).filter { graph.tensors[$0]?.dataType?.isComplex ?? false })
    if TorchRules.linear.contains(rule) {
      try checkSameKind(call, complex)
      return try paired(call, 0, 1, complex)
    }
    guard TorchRules.products.contains(rule) else {
      throw .unsupported("complex numbers", remedy: "Compute with real and imaginary parts, as view_as_real gives them")
    }
    let operands = call.node.inputs.flatMap(\.value.names).filter { complex.contains($0) }
    if operands.count == 1 { return try paired(call, 0, 1, complex) }
    guard operands.count == 2, complex.count == 2 else { throw .unsupported("a product of these complex numbers") }
    var terms: [ValueID] = []
    for (first, second) in [(0, 0), (1, 1), (0, 1), (1, 0)] {
      let results = try withParts([operands[0]: first, operands[1]: second]) { () throws(OperatorError) in
        try plain(call)
      }
      guard results.count == 1, let term = results[0] else { throw .unsupported("a product with several results") }
      terms.append(term)
    }
    let real = try layers.emit("Sub", [terms[0], terms[1]])
    return [try layers.pairs(real, try layers.emit("Add", [terms[2], terms[3]]))]
  }

  /// Real tensors beside complex ones would have to become such; places and truths stay as they are.
  private func checkSameKind(_ call: TorchCall, _ complex: Set<String>) throws(OperatorError) {
    for name in call.node.inputs.flatMap(\.value.names) where !complex.contains(name) {
      if graph.tensors[name]?.dataType?.isFloat ?? false {
        throw .unsupported("real numbers beside complex ones", remedy: "Cast them to complex numbers before")
      }
    }
  }

  /// What a rule makes of the real and of the imaginary parts, as pairs.
  private func paired(
    _ call: TorchCall, _ first: Int, _ second: Int, _ complex: Set<String>
  ) throws(OperatorError) -> [ValueID?] {
    let real = try withParts(Dictionary(uniqueKeysWithValues: complex.map { ($0, first) })) {
      () throws(OperatorError) in try plain(call)
    }
    let imaginary = try withParts(Dictionary(uniqueKeysWithValues: complex.map { ($0, second) })) {
      () throws(OperatorError) in try plain(call)
    }
    var results: [ValueID?] = []
    for (real, imaginary) in zip(real, imaginary) {
      guard let real, let imaginary else {
        results.append(nil)
        continue
      }
      results.append(try layers.pairs(real, imaginary))
    }
    return results
  }

  /// What the rule or the view of real numbers gives.
  private func plain(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    if let view = TorchRules.views[call.op.rule] { return [try view(call).read(try call.tensor(at: 0))] }
    guard let rule = TorchRules.rule(of: call.op) else { throw .unsupported("there is no rule for it") }
    return try rule(call)
  }

  /// The view that a view of complex numbers is, which reads and writes both parts.
  func complexView(_ call: TorchCall) throws(OperatorError) -> TorchView? {
    if ["view_as_real", "view_as_complex"].contains(call.op.rule) { return .same }
    if ["real", "imag", "_conj", "conj"].contains(call.op.rule) {
      return TorchView(
        read: { (value) throws(OperatorError) in
          guard let result = try self.makeComplex(call).first ?? nil else { return value }
          return result
        }, write: nil)
    }
    guard let rule = TorchRules.views[call.op.rule], case .tensor(let name)? = call.node.inputs.first?.value else {
      return nil
    }
    let view = try withParts([name: 0]) { () throws(OperatorError) in try rule(call) }
    func parts(_ value: ValueID) throws(OperatorError) -> [ValueID] {
      [try layers.part(0, ofPairs: value), try layers.part(1, ofPairs: value)]
    }
    var change: ((ValueID, ValueID) throws(OperatorError) -> ValueID)?
    if let write = view.write {
      change = { (base: ValueID, new: ValueID) throws(OperatorError) -> ValueID in
        let (old, own) = (try parts(base), try parts(new))
        return try self.layers.pairs(try write(old[0], own[0]), try write(old[1], own[1]))
      }
    }
    return TorchView(
      read: { (value) throws(OperatorError) in
        let own = try parts(value)
        return try self.layers.pairs(try view.read(own[0]), try view.read(own[1]))
      }, write: change, isCopy: view.isCopy)
  }
}
