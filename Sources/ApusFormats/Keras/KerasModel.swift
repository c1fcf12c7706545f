// Models of Keras as their configuration describes them: layers, and the calls that join them to a graph.

import ApusGraph

/// A tensor of a model: an output of a call of a layer.
struct KerasReference: Hashable {
  let layer: String
  let call: Int
  let output: Int
}

/// What a layer is called with: tensors, lists of them, and numbers, texts and the like.
indirect enum KerasArgument<Tensor> {
  case tensor(Tensor)
  case list([KerasArgument])
  case constant(JSONValue)

  /// All tensors, in order.
  var tensors: [Tensor] {
    switch self {
    case .tensor(let tensor): [tensor]
    case .list(let elements): elements.flatMap(\.tensors)
    case .constant: []
    }
  }

  var isNull: Bool { if case .constant(.null) = self { true } else { false } }

  /// The same with other tensors in it.
  func map<Other>(_ change: (Tensor) throws(LoadError) -> Other) throws(LoadError) -> KerasArgument<Other> {
    switch self {
    case .tensor(let tensor): return .tensor(try change(tensor))
    case .list(let elements):
      var changed: [KerasArgument<Other>] = []
      for element in elements { changed.append(try element.map(change)) }
      return .list(changed)
    case .constant(let value): return .constant(value)
    }
  }
}

/// One call of a layer.
struct KerasNode<Tensor> {
  var arguments: [KerasArgument<Tensor>] = []
  var keywords: [String: KerasArgument<Tensor>] = [:]

  var tensors: [Tensor] {
    arguments.flatMap(\.tensors) + keywords.sorted { $0.key < $1.key }.flatMap { $0.value.tensors }
  }

  func map<Other>(_ change: (Tensor) throws(LoadError) -> Other) throws(LoadError) -> KerasNode<Other> {
    var node = KerasNode<Other>()
    for argument in arguments { node.arguments.append(try argument.map(change)) }
    for (name, argument) in keywords { node.keywords[name] = try argument.map(change) }
    return node
  }
}

/// A layer, a model used as one, or an operation.
struct KerasLayer {
  let className: String
  /// The Python module, which Keras 2 does not write.
  let module: String?
  /// Set for classes that are not Keras' own.
  let registeredName: String?
  let name: String
  let config: KerasConfig
  /// The shape that it was built with, where the file says so.
  let builtShape: JSONValue?
  var calls: [KerasNode<KerasReference>] = []
  /// Set if the layer is a model.
  var model: KerasModel?

  /// Classes of Keras' own that Keras 2 registers as if they were an author's: they lie with keras.applications.
  private static let ownCustomClasses = ["Custom>CustomScaleLayer": "CustomScaleLayer"]

  init(
    className: String, module: String?, registeredName: String?, name: String, config: KerasConfig,
    builtShape: JSONValue?
  ) {
    let own = Self.ownCustomClasses
    self.className = own[className] ?? className
    self.registeredName = registeredName.map { own[$0] ?? $0 }
    (self.module, self.name, self.config, self.builtShape) = (module, name, config, builtShape)
  }

  /// True for what `keras.ops` makes. `.h5` files tell no modules; there operations are what cannot be trained.
  var isOperation: Bool {
    if module == nil { return config["trainable"] == nil && KerasOperations.rules[className] != nil }
    return module?.contains("keras.src.ops") ?? false || module?.hasPrefix("keras.ops") ?? false
  }

  /// True for a function of TensorFlow between layers.
  var isFunction: Bool { ["TFOpLambda", "SlicingOpLambda", "ClassMethod"].contains(className) }

  /// True if the file says that the class is not one of Keras.
  var isCustom: Bool {
    if className.contains(">") || registeredName?.contains(">") ?? false { return true }
    guard let module else { return false }
    let root = String(module.prefix { $0 != "." })
    return !["keras", "tf_keras", "tensorflow", "builtins"].contains(root)
  }
}

/// A Sequential or functional model.
struct KerasModel {
  let name: String
  let isSequential: Bool
  var layers: [KerasLayer]
  /// The tensors that callers give it and those that it gives them, in the order of the arguments.
  var inputs: [KerasReference] = []
  var outputs: [KerasReference] = []
  /// What dictionaries call them; nil where there is none.
  var inputNames: [String?] = []
  var outputNames: [String?] = []
}

/// Reads models from configurations.
struct KerasModelParser {
  /// Models in each other.
  private static let maximumDepth = 32
  private static let modelClasses: Set<String> = ["Sequential", "Functional", "Model"]

  /// The layer that a member such as `layer` or `cell` of a configuration describes.
  static func layer(_ value: JSONValue, depth: Int = 0) throws(OperatorError) -> KerasLayer {
    let entry = KerasConfig(value)
    guard let className = try entry.string("class_name") else { throw .invalid("a layer has no 'class_name'") }
    let config = entry.object("config")
    let given = try entry.string("name")
    let name = given == nil ? try config.string("name") ?? className : given ?? className
    var layer = KerasLayer(
      className: className, module: try entry.string("module"), registeredName: try entry.string("registered_name"),
      name: name, config: config, builtShape: entry.object("build_config")["input_shape"])
    for call in entry["inbound_nodes"]?.elements ?? [] { layer.calls.append(try node(call)) }
    if modelClasses.contains(className), !layer.isCustom {
      if depth >= maximumDepth { throw .invalid("models lie more than \(maximumDepth) deep in each other") }
      layer.model = try model(entry["config"] ?? .null, className: className, name: name, depth: depth)
    }
    return layer
  }

  /// The model of a configuration with `layers`. Old Sequential models are a bare list of layers.
  private static func model(
    _ value: JSONValue, className: String, name: String, depth: Int
  ) throws(OperatorError) -> KerasModel {
    let config = KerasConfig(value)
    guard let entries = value.elements ?? config["layers"]?.elements else {
      throw .unsupported(
        "the model '\(name)' says nothing of its layers", remedy: "Save a Sequential or functional model")
    }
    var model = KerasModel(name: name, isSequential: className == "Sequential", layers: [])
    var names: Set<String> = []
    for entry in entries {
      let layer = try layer(entry, depth: depth + 1)
      guard names.insert(layer.name).inserted else { throw .invalid("two layers have the name '\(layer.name)'") }
      model.layers.append(layer)
    }
    if model.isSequential {
      try chain(&model, config["build_input_shape"])
    } else {
      model.inputs = try references(config["input_layers"], "input_layers")
      model.outputs = try references(config["output_layers"], "output_layers")
      model.inputNames = try Self.names(config["input_layers"], "input_layers")
      model.outputNames = try Self.names(config["output_layers"], "output_layers")
    }
    return model
  }

  /// Joins the layers of a Sequential model one after the other, behind an input that may be said by the first one.
  private static func chain(_ model: inout KerasModel, _ shape: JSONValue?) throws(OperatorError) {
    guard let first = model.layers.first else { throw .invalid("the Sequential model '\(model.name)' has no layers") }
    if first.className != "InputLayer" {
      let own = first.config[["batch_input_shape", "batch_shape"]]
      guard let shape = own ?? shape ?? first.builtShape ?? inputShape(of: first.model) else {
        throw .unsupported(
          "the Sequential model '\(model.name)' has no input shape",
          remedy: "Build it, with an Input as the first layer, and save it again")
      }
      let type = try first.config.string("dtype") ?? "float32"
      let config = KerasConfig(.object([("batch_shape", shape), ("dtype", .string(type))]))
      model.layers.insert(
        KerasLayer(
          className: "InputLayer", module: nil, registeredName: nil, name: "\(first.name)_input", config: config,
          builtShape: nil), at: 0)
    }
    for index in model.layers.indices.dropFirst() {
      let before = KerasReference(layer: model.layers[index - 1].name, call: 0, output: 0)
      model.layers[index].calls = [KerasNode(arguments: [.tensor(before)])]
    }
    model.inputs = [KerasReference(layer: model.layers[0].name, call: 0, output: 0)]
    model.outputs = [KerasReference(layer: model.layers[model.layers.count - 1].name, call: 0, output: 0)]
  }

  private static func inputShape(of model: KerasModel?) -> JSONValue? {
    guard let model, let input = model.inputs.first else { return nil }
    return model.layers.first { $0.name == input.layer }?.config[["batch_shape", "batch_input_shape"]]
  }

  // MARK: - References

  /// The reference that three members of a list are: layer, call, output.
  private static func reference(_ elements: [JSONValue]) -> KerasReference? {
    guard elements.count >= 3, let layer = elements[0].text, let call = elements[1].smallInteger, call >= 0,
      let output = elements[2].smallInteger, output >= 0
    else { return nil }
    return KerasReference(layer: layer, call: call, output: output)
  }

  /// References in any structure of lists and dictionaries, whose keys are sorted.
  private static func references(_ value: JSONValue?, _ key: String) throws(OperatorError) -> [KerasReference] {
    switch value {
    case .array(let elements):
      if let found = reference(elements) { return [found] }
      var found: [KerasReference] = []
      for element in elements { found += try references(element, key) }
      return found
    case .object(let members):
      var found: [KerasReference] = []
      for member in members.sorted(by: { $0.key < $1.key }) { found += try references(member.value, key) }
      return found
    default: throw .invalid("'\(key)' should be references to layers; found \(value?.kind ?? "nothing")")
    }
  }

  /// The keys of references that are members of one dictionary, in the order of the references.
  private static func names(_ value: JSONValue?, _ key: String) throws(OperatorError) -> [String?] {
    guard case .object(let members)? = value else { return [] }
    var names: [String?] = []
    for member in members.sorted(by: { $0.key < $1.key }) {
      let count = try references(member.value, key).count
      names += count == 1 ? [member.key] : [String?](repeating: nil, count: count)
    }
    return names
  }

  // MARK: - Calls

  /// A call in the form of Keras 3 (an object with `args` and `kwargs`) or Keras 2 (lists).
  private static func node(_ value: JSONValue) throws(OperatorError) -> KerasNode<KerasReference> {
    var node = KerasNode<KerasReference>()
    if case .object = value {
      let call = KerasConfig(value)
      for argument in call["args"]?.elements ?? [] { node.arguments.append(self.argument(argument)) }
      if case .object(let members)? = call["kwargs"] {
        for (name, value) in members { node.keywords[name] = argument(value) }
      }
      return node
    }
    guard let elements = value.elements else { throw value.unexpected("an object or a list", as: "inbound_nodes") }
    if elements.first?.text != nil {
      node.arguments = [try oldArgument(elements, &node.keywords)]
      return node
    }
    var arguments: [KerasArgument<KerasReference>] = []
    for element in elements {
      guard let parts = element.elements else { throw element.unexpected("a list", as: "inbound_nodes") }
      arguments.append(try oldArgument(parts, &node.keywords))
    }
    node.arguments = arguments.count == 1 ? arguments : [.list(arguments)]
    return node
  }

  /// Keras 3: tensors are objects of the class `__keras_tensor__`.
  private static func argument(_ value: JSONValue) -> KerasArgument<KerasReference> {
    switch value {
    case .object(let members):
      let entry = KerasConfig(value)
      switch entry["class_name"]?.text {
      case "__keras_tensor__":
        if let parts = entry.object("config")["keras_history"]?.elements, let found = reference(parts) {
          return .tensor(found)
        }
      case "__tuple__", "__list__":
        if let elements = entry.object("config")["value"]?.elements ?? entry["config"]?.elements {
          return .list(elements.map(argument))
        }
      case nil: return .list(members.sorted { $0.key < $1.key }.map { argument($0.value) })
      default: break
      }
      return .constant(value)
    case .array(let elements): return .list(elements.map(argument))
    default: return .constant(value)
    }
  }

  /// Keras 2: a list of layer, call, output and keywords, in which references are lists of three.
  private static func oldArgument(
    _ elements: [JSONValue], _ keywords: inout [String: KerasArgument<KerasReference>]
  ) throws(OperatorError) -> KerasArgument<KerasReference> {
    if elements.count > 3, case .object(let members) = elements[3] {
      for (name, value) in members { keywords[name] = oldKeyword(value) }
    }
    if let found = reference(elements) { return .tensor(found) }
    if elements.count >= 3, elements[0].text == "_CONSTANT_VALUE" { return .constant(elements[2]) }
    throw .invalid("a call should be made of a layer, a call and an output; found \(elements.prefix(3).map(\.kind))")
  }

  private static func oldKeyword(_ value: JSONValue) -> KerasArgument<KerasReference> {
    guard let elements = value.elements else { return .constant(value) }
    if elements.count == 3, let found = reference(elements) { return .tensor(found) }
    return .list(elements.map(oldKeyword))
  }
}
