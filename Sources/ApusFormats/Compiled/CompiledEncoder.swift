// From a graph to the bytes of a section of a compiled model.

import ApusGraph
import ApusTensor

/// Bytes of constants that lie at one place, which several tensors may refer to.
struct ConstantSource {
  /// One of the tensors, without strings.
  var tensor: Tensor
  var byteCount: Int
  /// True if elements may be places, sizes or choices.
  var decides: Bool
  /// True if a node has them as an attribute: when it reads them is not known.
  var isAttribute = false
}

/// A section that is being written: varints, with tables of texts and expressions in front, so that each is there once.
struct CompiledEncoder {
  private var content: [UInt8] = []
  private var texts: [String: Int] = [:]
  private var textBytes: [UInt8] = []
  private var dims: [Dim: Int] = [:]
  private var dimBytes: [UInt8] = []
  /// The constants that were met, by number.
  private(set) var sources: [ConstantSource] = []
  private var numbers: [Place: Int] = [:]

  private struct Place: Hashable {
    let storage: ObjectIdentifier
    let byteOffset: Int
  }

  /// The bytes of the section.
  func finish() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendVarint(UInt64(texts.count))
    bytes += textBytes
    bytes.appendVarint(UInt64(dims.count))
    return bytes + dimBytes + content
  }

  // MARK: - Parts

  mutating func count(_ value: Int) { content.appendVarint(UInt64(value)) }
  mutating func int(_ value: Int) { content.appendVarint(CompiledEncoder.zigzag(value)) }
  mutating func bool(_ value: Bool) { count(value ? 1 : 0) }
  mutating func raw(_ bytes: [UInt8]) { content += bytes }
  mutating func float(_ value: Float) { count(Int(value.bitPattern)) }

  mutating func text(_ text: String) { count(number(of: text)) }

  mutating func list<Element>(_ elements: [Element], _ body: (inout CompiledEncoder, Element) -> Void) {
    count(elements.count)
    for element in elements { body(&self, element) }
  }

  mutating func optional<Element>(_ element: Element?, _ body: (inout CompiledEncoder, Element) -> Void) {
    bool(element != nil)
    if let element { body(&self, element) }
  }

  private static func zigzag(_ value: Int) -> UInt64 { UInt64(bitPattern: Int64(value << 1 ^ value >> 63)) }

  private mutating func number(of text: String) -> Int {
    if let number = texts[text] { return number }
    let utf8 = Array(text.utf8)
    textBytes.appendVarint(UInt64(utf8.count))
    textBytes += utf8
    texts[text] = texts.count
    return texts.count - 1
  }

  // MARK: - Facts

  mutating func dim(_ dim: Dim) { count(number(of: dim)) }

  /// What an expression is made of gets its number before it.
  private mutating func number(of dim: Dim) -> Int {
    if let number = dims[dim] { return number }
    var bytes: [UInt8] = []
    if let number = dim.known {
      bytes.append(1)
      bytes.appendVarint(CompiledEncoder.zigzag(number))
    } else if let products = dim.products {
      bytes.append(2)
      bytes.appendVarint(UInt64(products.count))
      for product in products {
        bytes.appendVarint(CompiledEncoder.zigzag(product.coefficient))
        bytes.appendVarint(UInt64(product.factors.count))
        for factor in product.factors {
          switch factor {
          case .symbol(let name):
            bytes.append(0)
            bytes.appendVarint(UInt64(number(of: name)))
          case .combined(let combination, let a, let b):
            bytes.append(combination.rawValue)
            bytes.appendVarint(UInt64(number(of: a)))
            bytes.appendVarint(UInt64(number(of: b)))
          }
        }
      }
    } else {
      bytes.append(0)
    }
    dimBytes += bytes
    dims[dim] = dims.count
    return dims.count - 1
  }

  mutating func fact(_ fact: ValueFact) {
    switch fact {
    case .unknown: count(0)
    case .tensor(let fact):
      count(1)
      type(fact.dataType)
      optional(fact.shape) { $0.list($1) { $0.dim($1) } }
      optional(fact.values) { $0.list($1) { $0.dim($1) } }
    case .sequence(let element):
      count(2)
      self.fact(element)
    case .optional(let element):
      count(3)
      self.fact(element)
    case .map(let key, let value):
      count(4)
      type(key)
      self.fact(value)
    }
  }

  mutating func named(_ value: NamedFact) {
    text(value.name)
    fact(value.fact)
  }

  private mutating func type(_ type: DataType) { count(Int(type.rawValue)) }

  // MARK: - Constants

  mutating func tensor(_ tensor: Tensor, isAttribute: Bool = false) {
    type(tensor.dataType)
    list(tensor.shape.dims) { $0.count($1) }
    if tensor.dataType == .string {
      for string in tensor.storage.strings { text(string) }
    } else {
      let number = source(of: tensor)
      if isAttribute { sources[number].isAttribute = true }
      count(number)
    }
  }

  private mutating func source(of tensor: Tensor) -> Int {
    let place = Place(storage: ObjectIdentifier(tensor.storage), byteOffset: tensor.byteOffset)
    let decides = CompiledFormat.decides(tensor.dataType)
    if let number = numbers[place] {
      sources[number].decides = sources[number].decides || decides
      if sources[number].byteCount < tensor.byteCount {
        (sources[number].tensor, sources[number].byteCount) = (tensor, tensor.byteCount)
      }
      return number
    }
    sources.append(ConstantSource(tensor: tensor, byteCount: tensor.byteCount, decides: decides))
    numbers[place] = sources.count - 1
    return sources.count - 1
  }

  // MARK: - Graphs

  mutating func content(_ content: CompiledContent) {
    let model = content.model
    for number in [model.irVersion, model.modelVersion] { int(number) }
    for text in [model.producer, model.producerVersion, model.domain, model.documentation] { self.text(text) }
    list(model.opsets.sorted { $0.key < $1.key }) {
      $0.text($1.key)
      $0.int($1.value)
    }
    list(model.metadata) {
      $0.text($1.key)
      $0.text($1.value)
    }
    list(model.defaultedInputs) { $0.named(NamedFact(name: $1.name, fact: $1.fact)) }
    list(content.inputs) { $0.named($1) }
    list(content.outputs) { $0.named($1) }
    list(content.notes) { $0.text($1) }
    graph(model.graph)
  }

  private mutating func graph(_ graph: Graph) {
    text(graph.name)
    let given = Set(graph.inputs)
    list(Array(graph.values.enumerated())) { encoder, element in
      let (index, value) = element
      encoder.text(value.name)
      encoder.optional(value.constant) { $0.tensor($1) }
      if value.constant != nil { return }
      encoder.fact(given.contains(ValueID(index)) ? value.fact.withoutValues : value.fact.withoutShapes)
    }
    list(graph.inputs) { $0.count($1.index) }
    list(graph.captures) { $0.count($1.index) }
    list(graph.nodes) { $0.node($1) }
    list(graph.outputs) { $0.count($1.index) }
    list(graph.inputDeclarations) { $0.fact($1) }
    list(graph.outputDeclarations) { $0.fact($1) }
    optional(graph.settledOutputs) { $0.list($1) { $0.fact($1) } }
  }

  private mutating func node(_ node: Node) {
    text(node.op.domain)
    text(node.op.name)
    text(node.name)
    // 0 stands for none.
    list(node.inputs) { $0.count($1.map { $0.index + 1 } ?? 0) }
    list(node.outputs) { $0.count($1.map { $0.index + 1 } ?? 0) }
    list(node.attributes.entries) {
      $0.text($1.name)
      $0.attribute($1.value)
    }
  }

  private mutating func attribute(_ value: AttributeValue) {
    count(value.kind.number)
    switch value {
    case .int(let value): int(value)
    case .float(let value): float(value)
    case .string(let value): text(value)
    case .tensor(let value): tensor(value, isAttribute: true)
    case .graph(let value): subgraph(value)
    case .type(let value): fact(value)
    case .ints(let values): list(values) { $0.int($1) }
    case .floats(let values): list(values) { $0.float($1) }
    case .strings(let values): list(values) { $0.text($1) }
    case .tensors(let values): list(values) { $0.tensor($1, isAttribute: true) }
    case .graphs(let values): list(values) { $0.subgraph($1) }
    case .types(let values): list(values) { $0.fact($1) }
    }
  }

  private mutating func subgraph(_ subgraph: Subgraph) {
    list(subgraph.captured) { $0.count($1.index) }
    graph(subgraph.graph)
  }
}

extension AttributeKind {
  /// The kinds by their numbers in a compiled model, which must not change.
  static let numbered: [AttributeKind] = [
    .int, .float, .string, .tensor, .graph, .type, .ints, .floats, .strings, .tensors, .graphs, .types,
  ]

  fileprivate var number: Int { AttributeKind.numbered.firstIndex(of: self) ?? 0 }
}
