// The signature of an operator: what the specification allows, in the words of the specification.

import ApusTensor
import Synchronization

/// The signature of an operator in its newest version. One object an operator, to which contexts and nodes refer.
///
/// Most of it is made when it is first asked for: a process has hundreds of schemas and its models use a few. Whatever
/// `init` takes as an expression is evaluated then, perhaps by several threads at once, of which one is believed.
package final class OperatorSchema: Sendable {
  package let id: OperatorID
  package let traits: Traits
  /// When a node hands its first input on as its first output.
  package let identity: IdentityCondition
  /// The values that its body hands from one iteration to the next; nil: it has no such body.
  package let carried: CarriedValues?
  /// The multiply-adds of a node, unknown where a shape is; nil: it is no product.
  package let multiplyAdds: NodeFormula?
  /// How the axes of its operands hang together; nil: as `layout` says.
  package let axes: AxisRule?
  /// The weights of a product; nil: it has none.
  package let weights: WeightTrait?
  private let statedCodes: CodeTrait?
  private let make: @Sendable () -> Signature
  /// The address of the signature, to which the schema holds a reference; 0 as long as there is none.
  private let made = Atomic<UInt>(0)

  /// Every version of the schema, oldest first, back to opset 1.
  package var versions: [Int] { signature.versions }
  package var inputs: [Parameter] { signature.inputs }
  package var outputs: [Parameter] { signature.outputs }
  package var attributes: [AttributeSchema] { signature.attributes }
  /// The element types that each type variable (`T`, `Tind`, …) may stand for, in any version.
  package var types: [String: TypeSet] { signature.types }
  /// What becomes of it when the axes of its operands are put in another order.
  package var layout: LayoutTrait { signature.layout }
  /// The older operator sets that have the newest form; nil: none is known.
  package var portable: PortableForm? { signature.portable }

  /// What it makes of integers that stand for floats: as it states, or as follows from what else it states.
  package var codes: CodeTrait {
    if let statedCodes { return statedCodes }
    if traits.contains(.rearranges) { return .keeps }
    if case .elementwise = layout, !traits.contains(.random) { return .computes }
    return .none
  }

  package init(
    _ name: String, domain: String = "", versions: @autoclosure @escaping @Sendable () -> [Int],
    inputs: @autoclosure @escaping @Sendable () -> [Parameter] = [],
    outputs: @autoclosure @escaping @Sendable () -> [Parameter],
    attributes: @autoclosure @escaping @Sendable () -> [AttributeSchema] = [],
    types: @autoclosure @escaping @Sendable () -> [String: TypeSet] = [:], traits: Traits = [],
    identity: IdentityCondition = .never, layout: @autoclosure @escaping @Sendable () -> LayoutTrait = .fixed,
    portable: @autoclosure @escaping @Sendable () -> PortableForm? = nil, carried: CarriedValues? = nil,
    multiplyAdds: NodeFormula? = nil, axes: AxisRule? = nil, weights: WeightTrait? = nil, codes: CodeTrait? = nil
  ) {
    id = OperatorID(name, domain: domain)
    self.traits = traits
    self.identity = identity
    self.carried = carried
    self.multiplyAdds = multiplyAdds
    self.axes = axes
    (self.weights, statedCodes) = (weights, codes)
    make = {
      Signature(
        versions: versions(), inputs: inputs(), outputs: outputs(), attributes: attributes(), types: types(),
        layout: layout(), portable: portable())
    }
  }

  /// What is made when it is first asked for.
  private final class Signature: Sendable {
    let versions: [Int]
    let inputs: [Parameter]
    let outputs: [Parameter]
    let attributes: [AttributeSchema]
    let types: [String: TypeSet]
    let layout: LayoutTrait
    let portable: PortableForm?
    /// By parameter.
    let inputRules: [TypeRule]
    let outputRules: [TypeRule]

    init(
      versions: [Int], inputs: [Parameter], outputs: [Parameter], attributes: [AttributeSchema],
      types: [String: TypeSet], layout: LayoutTrait, portable: PortableForm?
    ) {
      (self.versions, self.inputs, self.outputs, self.attributes) = (versions, inputs, outputs, attributes)
      (self.types, self.layout, self.portable) = (types, layout, portable)
      (inputRules, outputRules) = (TypeRule.rules(of: inputs, types), TypeRule.rules(of: outputs, types))
    }
  }

  deinit {
    // The reference of `made`.
    if let known = UnsafeRawPointer(bitPattern: made.load(ordering: .acquiring)) {
      Unmanaged<Signature>.fromOpaque(known).release()
    }
  }

  /// `AtomicLazyReference` does the same by a call that costs more than most questions.
  private var signature: Signature {
    guard let known = UnsafeRawPointer(bitPattern: made.load(ordering: .acquiring)) else { return makeSignature() }
    // An object to which `made` has a reference.
    return Unmanaged<Signature>.fromOpaque(known).takeUnretainedValue()
  }

  @inline(never)
  private func makeSignature() -> Signature {
    let signature = make()
    let reference = Unmanaged.passRetained(signature)
    let address = UInt(bitPattern: reference.toOpaque())
    let (isFirst, _) = made.compareExchange(expected: 0, desired: address, ordering: .acquiringAndReleasing)
    if isFirst { return signature }
    reference.release()
    return self.signature
  }

  /// The version that a model with this opset means; nil if the operator is younger.
  package func version(atOpset opset: Int) -> Int? { versions.last { $0 <= opset } }

  /// False if a value of that type may not stand for the parameter, whatever the others are. An unknown type may.
  func allows(_ fact: ValueFact, asInput parameter: Int) -> Bool { signature.inputRules[parameter].allows(fact) }
  func allows(_ fact: ValueFact, asOutput parameter: Int) -> Bool { signature.outputRules[parameter].allows(fact) }

  /// The last input before another that is of the same type variable, neither of them variadic.
  func input(sharingTypeWith parameter: Int) -> Int? { signature.inputRules[parameter].former }

  /// The number of the parameter that stands for a position; nil if there is none.
  static func number(at index: Int, of parameters: [Parameter]) -> Int? {
    if index < parameters.count { return index }
    return parameters.last?.presence == .variadic ? parameters.count - 1 : nil
  }

  /// The parameter at a position; a variadic last one stands for all that follow.
  package func input(at index: Int) -> Parameter? { OperatorSchema.parameter(at: index, of: inputs) }
  package func output(at index: Int) -> Parameter? { OperatorSchema.parameter(at: index, of: outputs) }

  private static func parameter(at index: Int, of parameters: [Parameter]) -> Parameter? {
    index < parameters.count ? parameters[index] : parameters.last.flatMap { $0.presence == .variadic ? $0 : nil }
  }

  package struct Traits: OptionSet, Sendable {
    package let rawValue: Int
    package init(rawValue: Int) { self.rawValue = rawValue }

    /// Moves elements without looking at them: works by element width, and on strings through their indices.
    /// Every input and output bound to the type variable `T` takes part.
    package static let movesData = Traits(rawValue: 1)
    /// The output does not depend on the elements of the first input, only on its shape (Shape, Size).
    package static let readsShapeOnly = Traits(rawValue: 2)
    /// Two runs on the same inputs may differ.
    package static let random = Traits(rawValue: 4)
    /// The inputs may change places.
    package static let commutative = Traits(rawValue: 8)
    /// Moves elements, and does nothing else: every element of an output is an element of an input of the same type
    /// variable, which one does not depend on what they are.
    package static let rearranges: Traits = [.movesData, Traits(rawValue: 16)]
    /// Adds up many elements or raises to powers: in 16 bits results lose digits or overflow where float32 does not.
    package static let isSensitive = Traits(rawValue: 32)
  }
}

/// What a schema says of the types of one parameter, in a form for quick questions.
private struct TypeRule: Sendable {
  /// nil: any type.
  private let types: TypeSet?
  /// The element types of plain tensors, as bits by their raw values.
  private let tensors: UInt64
  /// The last parameter before of the same type variable, neither of them variadic.
  let former: Int?

  static func rules(of parameters: [Parameter], _ types: [String: TypeSet]) -> [TypeRule] {
    parameters.indices.map { index in
      let type = parameters[index].type
      func binds(_ index: Int) -> Bool { parameters[index].type == type && parameters[index].presence != .variadic }
      return TypeRule(types[type], former: binds(index) ? parameters[..<index].indices.last(where: binds) : nil)
    }
  }

  private init(_ types: TypeSet?, former: Int?) {
    (self.types, self.former) = (types, former)
    tensors = types?.tensors.reduce(0) { $0 | 1 << UInt64($1.rawValue) } ?? .max
  }

  func allows(_ fact: ValueFact) -> Bool {
    if let type = fact.elementType { return tensors >> UInt64(type.rawValue) & 1 != 0 }
    return types?.allows(fact) ?? true
  }
}

/// An input or output of an operator.
package struct Parameter: Sendable {
  package enum Presence: Sendable { case required, optional, variadic }

  package var name: String
  /// A type variable of `OperatorSchema.types`.
  package var type: String
  package var presence: Presence
  /// True if the shapes of the outputs, or the plan, depend on the elements of this input (the shape of a Reshape).
  package var isReadWhenPlanning = false
  /// The first version that has the parameter, and the attribute that said the same before, if one did.
  package var since = 1
  package var formerAttribute: AttributeSchema?

  package static func required(_ name: String, _ type: String, readWhenPlanning: Bool = false) -> Parameter {
    Parameter(name: name, type: type, presence: .required, isReadWhenPlanning: readWhenPlanning)
  }
  package static func optional(_ name: String, _ type: String, readWhenPlanning: Bool = false) -> Parameter {
    Parameter(name: name, type: type, presence: .optional, isReadWhenPlanning: readWhenPlanning)
  }
  /// Any number of values, at least one unless the specification's text says otherwise. Only as the last parameter.
  package static func variadic(_ name: String, _ type: String) -> Parameter {
    Parameter(name: name, type: type, presence: .variadic)
  }

  /// The same parameter, which versions before `version` do not have.
  package func since(_ version: Int) -> Parameter {
    var copy = self
    copy.since = version
    return copy
  }

  /// The same parameter, which was an attribute before `version`.
  package func since(_ version: Int, before attribute: AttributeSchema) -> Parameter {
    var copy = since(version)
    copy.formerAttribute = attribute
    return copy
  }
}

/// An attribute of an operator: its kind, and the value it has when absent.
package struct AttributeSchema: Sendable {
  package var name: String
  package var kind: AttributeKind
  package var isRequired: Bool
  package var defaultValue: AttributeValue?
  /// The first version that has the attribute. Before, every node meant what the default says; without a default what
  /// the absence of the attribute says.
  package var since = 1
  /// True if a list of ones says what the absence of the attribute says.
  package var isOnesByDefault = false

  /// The same attribute, which versions before `version` do not have.
  package func since(_ version: Int) -> Self {
    var copy = self
    copy.since = version
    return copy
  }

  package static func int(_ name: String, default value: Int) -> Self {
    Self(name: name, kind: .int, isRequired: false, defaultValue: .int(value))
  }
  package static func float(_ name: String, default value: Float) -> Self {
    Self(name: name, kind: .float, isRequired: false, defaultValue: .float(value))
  }
  package static func string(_ name: String, default value: String) -> Self {
    Self(name: name, kind: .string, isRequired: false, defaultValue: .string(value))
  }
  package static func ints(_ name: String, default value: [Int]) -> Self {
    Self(name: name, kind: .ints, isRequired: false, defaultValue: .ints(value))
  }
  package static func floats(_ name: String, default value: [Float]) -> Self {
    Self(name: name, kind: .floats, isRequired: false, defaultValue: .floats(value))
  }
  package static func strings(_ name: String, default value: [String]) -> Self {
    Self(name: name, kind: .strings, isRequired: false, defaultValue: .strings(value))
  }
  /// Without a default: its absence means something of its own.
  package static func optional(_ name: String, _ kind: AttributeKind) -> Self {
    Self(name: name, kind: kind, isRequired: false, defaultValue: nil)
  }
  /// A number for every axis, all of them 1 if it is absent.
  package static func onesByDefault(_ name: String) -> Self {
    Self(name: name, kind: .ints, isRequired: false, defaultValue: nil, isOnesByDefault: true)
  }
  package static func required(_ name: String, _ kind: AttributeKind) -> Self {
    Self(name: name, kind: kind, isRequired: true, defaultValue: nil)
  }
}

/// What a type variable may stand for.
package struct TypeSet: Sendable, ExpressibleByArrayLiteral {
  /// The element types of plain tensors.
  package var tensors: [DataType]
  /// The element types of sequences of tensors.
  package var sequences: [DataType] = []
  /// The element types of optional tensors, and of optional sequences of tensors.
  package var optionals: [DataType] = []
  package var optionalSequences: [DataType] = []
  /// True if maps are allowed.
  package var maps = false

  package init(_ tensors: [DataType]) { self.tensors = tensors }
  package init(arrayLiteral elements: DataType...) { tensors = elements }

  package init(
    tensors: [DataType] = [], sequences: [DataType] = [], optionals: [DataType] = [],
    optionalSequences: [DataType] = [],
    maps: Bool = false
  ) {
    self.tensors = tensors
    self.sequences = sequences
    self.optionals = optionals
    self.optionalSequences = optionalSequences
    self.maps = maps
  }

  /// True if a value of that type is allowed. An unknown type always is.
  package func allows(_ fact: ValueFact) -> Bool {
    switch fact {
    case .unknown: true
    case .tensor(let tensor): tensors.contains(tensor.dataType)
    case .sequence(.tensor(let tensor)): sequences.contains(tensor.dataType)
    case .sequence(.map): maps
    case .sequence(.unknown): !sequences.isEmpty
    case .sequence: false
    case .optional(.tensor(let tensor)): optionals.contains(tensor.dataType)
    case .optional(.sequence(.tensor(let tensor))): optionalSequences.contains(tensor.dataType)
    case .optional(.unknown): !optionals.isEmpty
    case .optional: false
    case .map: maps
    }
  }

  package static func + (a: TypeSet, b: TypeSet) -> TypeSet {
    func union(_ x: [DataType], _ y: [DataType]) -> [DataType] { x + y.filter { !x.contains($0) } }
    return TypeSet(
      tensors: union(a.tensors, b.tensors), sequences: union(a.sequences, b.sequences),
      optionals: union(a.optionals, b.optionals), optionalSequences: union(a.optionalSequences, b.optionalSequences),
      maps: a.maps || b.maps)
  }

  package static let bool: TypeSet = [.bool]
  package static let int64: TypeSet = [.int64]
  package static let string: TypeSet = [.string]
  package static let signed: TypeSet = [.int8, .int16, .int32, .int64]
  package static let unsigned: TypeSet = [.uint8, .uint16, .uint32, .uint64]
  package static let integers = signed + unsigned
  package static let indices: TypeSet = [.int32, .int64]
  /// float16, float32, float64.
  package static let ieeeFloats: TypeSet = [.float16, .float32, .float64]
  /// `ieeeFloats` and bfloat16.
  package static let floats = ieeeFloats + [.bfloat16]
  /// Integers of 8 to 64 bits and `floats`: all_numeric_types_ir4 of the specification.
  package static let numeric = integers + floats
  package static let complex: TypeSet = [.complex64, .complex128]
  package static let float8: TypeSet = [.float8e4m3fn, .float8e4m3fnuz, .float8e5m2, .float8e5m2fnuz]
  package static let float6: TypeSet = [.float6e2m3, .float6e3m2]
  package static let packedIntegers: TypeSet = [.uint4, .int4, .uint2, .int2]
  /// Every tensor type of the first operator sets: numeric without bfloat16, bool, string, complex.
  package static let allBeforeBFloat16 = integers + ieeeFloats + bool + string + complex
  /// The same element types in sequences.
  package var inSequences: TypeSet { TypeSet(sequences: tensors) }
  /// The same element types as optional tensors, and as optional sequences.
  package var inOptionals: TypeSet { TypeSet(optionals: tensors, optionalSequences: tensors) }
  /// The types that an operator has, if any, in every version from operator set 21 on.
  package static let beforeNarrowTypes = integers + ieeeFloats + bool + string
  /// Every tensor type of IR 14.
  package static let all =
    allBeforeBFloat16 + [.bfloat16] + float8 + packedIntegers + [.float4e2m1, .float8e8m0] + float6
}
