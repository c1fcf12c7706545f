// Whole modules of PyTorch (torch.save(module)): a Sequential of layers of torch.nn is a graph; everything else has
// code that a file does not hold.

import ApusContainers
import ApusGraph
import ApusTensor

/// Reads checkpoints of which the top is a `torch.nn.Sequential`. Other checkpoints are recognised and explained.
struct TorchModuleImporter: ModelImporter {
  let name = "torch"
  let title = "PyTorch module"
  let endings = ["pth", "pt"]
  var operators: [String] { TorchLayers.classes.keys.map { "torch.nn.\($0)" }.sorted() }

  func recognizes(_ file: FileBytes) -> Bool {
    if let head = try? file.view(0..<min(file.count, 16)), TorchCheckpoint.isLegacy(head) { return true }
    return TorchFiles.archive(file)?.entries.contains { $0.name.hasSuffix("/data.pkl") || $0.name == "data.pkl" }
      ?? false
  }

  /// What the pickle would have Python call, for a message; empty if that is what weights need.
  private static func calls(_ pickle: Pickle) -> String {
    let names = pickle.unknownCalls.map(\.description)
    if names.isEmpty { return "" }
    let rest = names.count > namedCalls ? " and \(names.count - namedCalls) more" : ""
    return "; it calls \(names.prefix(namedCalls).joined(separator: ", "))\(rest), which is never run"
  }

  /// Calls that a message names.
  private static let namedCalls = 5

  func load(
    _ file: FileBytes, registry: OperatorRegistry, options: ImportOptions
  ) throws(LoadError) -> ImportedModel {
    if TorchFiles.archive(file)?.entries.contains(where: { $0.name.contains("/code/") }) ?? false {
      throw .unsupported(
        "TorchScript was found, a program in a language of its own, which is not read",
        remedy: "Export the model: torch.export.save(torch.export.export(model, inputs), 'model.pt2')")
    }
    let checkpoint = try TorchCheckpoint(file, limits: options.limits)
    let pickle = checkpoint.pickle
    guard let top = TorchLayers.className(pickle.root, in: pickle) else {
      throw LoadError(
        .wrongFormat,
        "a checkpoint of weights was found (\(checkpoint.tensors.count) tensors), which has no graph"
          + Self.calls(pickle),
        remedy: "Export the model with torch.export.save; `apus weights` puts these weights into an ONNX model of the "
          + "same architecture")
    }
    let ledger = ImportLedger(source: "PyTorch (module)", options: options)
    let layers = LayerBuilder(name: "main", registry: registry, ledger: ledger)
    var found = TorchLayers(checkpoint)
    guard top.name == "Sequential", top.isOfTorch else {
      try found.refuse(pickle.root, ledger)
      throw LoadError(
        .unsupported,
        "the module is a \(top.module).\(top.name); only a torch.nn.Sequential says in which order its "
          + "parts run", remedy: "Export the model: torch.export.save(torch.export.export(model, inputs), 'model.pt2')")
    }
    ledger.hasLayers(pickle.objects.count)
    try found.collect(pickle.root, ledger)
    try ledger.check()
    try found.build(layers, limits: options.limits, account: options.allowance.memory)
    return try layers.finish()
  }
}

/// The layers of a Sequential in their order, as calls of ATen's operators, whose rules make the nodes.
struct TorchLayers {
  private let checkpoint: TorchCheckpoint
  /// A layer at its place. A module that stands at several has its tensors under the first: `home`.
  struct Member {
    let path: String
    let home: String
    let name: String
    let state: PickleValue
  }
  private(set) var layers: [Member] = []
  /// The first place of each module, by the value that it is.
  private var homes: [PickleValue: String] = [:]
  var pickle: Pickle { checkpoint.pickle }

  private static let maximumDepth = 64

  init(_ checkpoint: TorchCheckpoint) { self.checkpoint = checkpoint }

  struct ClassName {
    let module: String
    let name: String
    var isOfTorch: Bool { module == "torch.nn" || module.hasPrefix("torch.nn.modules.") }
  }

  /// The class that a record would be of, if it looks like a module.
  static func className(_ value: PickleValue, in pickle: Pickle) -> ClassName? {
    guard let object = pickle.object(value), case .record(let callable, _) = object.kind, let state = object.state,
      pickle.value("_modules", in: state) != nil
    else { return nil }
    var symbol = pickle.symbol(callable)
    // The older form names the class together with its source: ('module', class, file, text).
    if case .persistent(let identifier)? = pickle.object(callable)?.kind, let parts = pickle.items(identifier),
      parts.count >= 2, parts[0] == .string("module")
    {
      symbol = pickle.symbol(parts[1])
    }
    return symbol.map { ClassName(module: $0.module, name: $0.name) }
  }

  private func children(_ value: PickleValue) -> [(key: String, value: PickleValue)] {
    guard let state = pickle.object(value)?.state, let modules = pickle.value("_modules", in: state) else { return [] }
    // An OrderedDict: a record whose entries were set in it, or a dictionary.
    if let entries = pickle.entries(modules) {
      return entries.compactMap { entry in pickle.string(entry.key).map { ($0, entry.value) } }
    }
    let pairs = pickle.object(modules)?.pairs ?? []
    return stride(from: 0, to: pairs.count - 1, by: 2).compactMap { index in
      pickle.string(pairs[index]).map { ($0, pairs[index + 1]) }
    }
  }

  /// Names every class of the author in the module.
  mutating func refuse(_ root: PickleValue, _ ledger: ImportLedger) throws(LoadError) {
    var waiting: [(path: String, value: PickleValue, depth: Int)] = [("", root, 0)]
    while let (path, value, depth) = waiting.popLast(), depth < Self.maximumDepth {
      guard let name = Self.className(value, in: pickle) else { continue }
      if !name.isOfTorch {
        ledger.refuse("the class \(name.module).\(name.name)", at: path.isEmpty ? "the module" : path)
      }
      try ledger.count(name.name)
      for child in children(value) {
        waiting.append((path.isEmpty ? child.key : "\(path).\(child.key)", child.value, depth + 1))
      }
    }
    try ledger.check()
  }

  /// Collects the layers of a Sequential and of those in it.
  mutating func collect(_ root: PickleValue, _ ledger: ImportLedger, path: String = "", depth: Int = 0)
    throws(LoadError)
  {
    if depth > Self.maximumDepth { throw .limit("modules lie more than \(Self.maximumDepth) deep in each other") }
    if depth == 0, let state = pickle.object(root)?.state { checkHooks(state, at: "the module", ledger) }
    for child in children(root) {
      let place = path.isEmpty ? child.key : "\(path).\(child.key)"
      guard let name = Self.className(child.value, in: pickle), let state = pickle.object(child.value)?.state else {
        try ledger.report("a module was expected", at: place)
        continue
      }
      try ledger.count(name.name)
      checkHooks(state, at: place, ledger)
      if !name.isOfTorch {
        ledger.refuse("the class \(name.module).\(name.name)", at: place)
      } else if name.name == "Sequential" {
        try collect(child.value, ledger, path: place, depth: depth + 1)
      } else if Self.classes[name.name] == nil {
        ledger.isUnmapped("torch.nn.\(name.name)", at: place)
      } else {
        let home = homes[child.value] ?? place
        homes[child.value] = home
        layers.append(Member(path: place, home: home, name: name.name, state: state))
      }
    }
  }

  // MARK: - Calls

  /// How a class becomes a call: the operator, and its arguments by the attributes of the module.
  struct Layer: Sendable {
    let target: String
    /// Arguments that are tensors of the module.
    var tensors: [String] = []
    /// Arguments and the attributes that they come from.
    var attributes: [(argument: String, attribute: String)] = []
    var operand = "input"
  }

  static let classes: [String: Layer] = {
    var table: [String: Layer] = [:]
    let plain = [
      "ReLU": "relu", "ReLU6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "SiLU": "silu", "Mish": "mish",
      "Hardswish": "hardswish", "Hardsigmoid": "hardsigmoid", "SELU": "selu", "Softsign": "softsign",
      "LogSigmoid": "log_sigmoid", "Tanhshrink": "tanhshrink", "Identity": "alias", "Dropout": "alias",
      "Dropout1d": "alias", "Dropout2d": "alias", "Dropout3d": "alias", "AlphaDropout": "alias",
      "FeatureAlphaDropout": "alias",
    ]
    for (name, target) in plain { table[name] = Layer(target: target, operand: "self") }
    func add(
      _ name: String, _ target: String, tensors: [String] = [], _ attributes: [String], operand: String = "self"
    ) {
      table[name] = Layer(
        target: target, tensors: tensors,
        attributes: attributes.map { pair in
          let parts = pair.split(separator: "=").map(String.init)
          return (parts[0], parts.count > 1 ? parts[1] : parts[0])
        }, operand: operand)
    }
    add("GELU", "gelu", ["approximate"])
    add("ELU", "elu", ["alpha"])
    add("CELU", "celu", ["alpha"])
    add("LeakyReLU", "leaky_relu", ["negative_slope"])
    add("RReLU", "rrelu", ["lower", "upper"])
    add("Hardtanh", "hardtanh", ["min_val", "max_val"])
    add("Softplus", "softplus", ["beta", "threshold"])
    add("Softshrink", "softshrink", ["lambd"])
    add("Hardshrink", "hardshrink", ["lambd"])
    add("Threshold", "threshold", ["threshold", "value"])
    add("PReLU", "prelu", tensors: ["weight"], [])
    add("GLU", "glu", ["dim"])
    add("Softmax", "softmax", ["dim"])
    add("LogSoftmax", "log_softmax", ["dim"])
    add("Flatten", "flatten", ["start_dim", "end_dim"])
    add("Linear", "linear", tensors: ["weight", "bias"], [], operand: "input")
    add("PixelShuffle", "pixel_shuffle", ["upscale_factor"])
    add("PixelUnshuffle", "pixel_unshuffle", ["downscale_factor"])
    for name in ["Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"] {
      // Which operator it is, its mode says: `upsampling`.
      table[name] = Layer(target: "upsample_nearest2d", operand: "input")
    }
    table["Embedding"] = Layer(target: "embedding", tensors: ["weight"], operand: "indices")
    let window = ["kernel_size", "stride", "padding", "ceil_mode"]
    for axes in 1...3 {
      add(
        "Conv\(axes)d", "conv\(axes)d", tensors: ["weight", "bias"], ["stride", "padding", "dilation", "groups"],
        operand: "input")
      add(
        "ConvTranspose\(axes)d", "conv_transpose\(axes)d", tensors: ["weight", "bias"],
        ["stride", "padding", "output_padding", "groups", "dilation"], operand: "input")
      add(
        "BatchNorm\(axes)d", "batch_norm", tensors: ["weight", "bias", "running_mean", "running_var"], ["eps"],
        operand: "input")
      add(
        "InstanceNorm\(axes)d", "instance_norm", tensors: ["weight", "bias", "running_mean", "running_var"], ["eps"],
        operand: "input")
      add("MaxPool\(axes)d", "max_pool\(axes)d", window + ["dilation"])
      add("AvgPool\(axes)d", "avg_pool\(axes)d", window + ["count_include_pad", "divisor_override"])
      add("AdaptiveAvgPool\(axes)d", "adaptive_avg_pool\(axes)d", ["output_size"])
      add("AdaptiveMaxPool\(axes)d", "adaptive_max_pool\(axes)d", ["output_size"])
      add("ZeroPad\(axes)d", "constant_pad_nd", ["pad=padding"])
      add("ConstantPad\(axes)d", "constant_pad_nd", ["pad=padding", "value"])
      add("ReflectionPad\(axes)d", "reflection_pad\(axes)d", ["padding"])
      add("ReplicationPad\(axes)d", "replication_pad\(axes)d", ["padding"])
    }
    add("LayerNorm", "layer_norm", tensors: ["weight", "bias"], ["normalized_shape", "eps"], operand: "input")
    add("GroupNorm", "group_norm", tensors: ["weight", "bias"], ["num_groups", "eps"], operand: "input")
    add("RMSNorm", "rms_norm", tensors: ["weight"], ["normalized_shape", "eps"], operand: "input")
    return table
  }()

  /// Makes the graph: one input, the layers one behind the other, one output.
  func build(_ builder: LayerBuilder, limits: LoadLimits, account: MemoryAccount?) throws(LoadError) {
    var graph = TorchGraph()
    let stored = Dictionary(checkpoint.tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    var value = "input"
    var used: [String] = []
    for member in layers {
      guard let layer = Self.classes[member.name] else { continue }
      try check(member, builder.ledger)
      if let padding = padding(before: member, of: value) {
        graph.nodes.append(padding)
        value = "\(member.path).padded"
      }
      var inputs: [(name: String, value: TorchArgument)] = [(layer.operand, .tensor(value))]
      for tensor in layer.tensors {
        let name = "\(member.home).\(tensor)"
        if stored[name] != nil {
          inputs.append((tensor, .tensor(name)))
          if !used.contains(name) { used.append(name) }
        } else if has(tensor, member.state) {
          try builder.ledger.report("its tensor '\(tensor)' cannot be read", at: member.path)
        }
      }
      var target = layer.target
      if member.name.hasPrefix("Upsampl") {
        let call = try upsampling(member, builder.ledger)
        target = call.target
        inputs += call.arguments
      } else {
        inputs += try arguments(of: member, layer, builder.ledger)
      }
      let result = "\(member.path).output"
      graph.nodes.append(
        TorchNode(
          target: "aten.\(target).default", inputs: inputs, outputs: [.tensor(result)], name: member.name,
          module: member.path, isLeaf: true))
      value = result
    }
    try builder.ledger.check()
    noteTraining(builder.ledger)
    graph.outputs = [.tensor(value)]
    let lowering = TorchLowering(graph, layers: builder, archive: nil, outputs: [value])
    for name in used {
      guard let tensor = stored[name] else { continue }
      let weight = try TorchWeights.tensor(tensor, limits: limits, account: account)
      lowering.bind(name, to: builder.constant(weight, name: name))
    }
    let (type, found) = inputType(stored)
    // The file says none, and some layers need one.
    let asked = builder.ledger.options.shapes["input"]?.dims.map { Dim($0) }
    lowering.bind("input", to: builder.input("input", type, asked ?? found))
    try lowering.run()
    try builder.ledger.check()
    do throws(OperatorError) {
      try builder.output(try lowering.tensor(value), named: "output")
    } catch {
      throw LoadError(.unsupported, error.message, remedy: error.remedy)
    }
  }

  /// What the first layer that says something takes; nil: any shape.
  private func inputType(_ stored: [String: TorchCheckpoint.Tensor]) -> (DataType, [Dim]?) {
    let batch = Dim.symbol("batch")
    let axes = [Dim.symbol("depth"), Dim.symbol("height"), Dim.symbol("width")]
    let tensors = layers.lazy.compactMap { stored["\($0.home).weight"] ?? stored["\($0.home).running_mean"] }
    let type = tensors.first?.dataType ?? .float32
    // Layers that images pass before one says how many channels they have.
    var images: [Dim]?
    for member in layers {
      let name = member.name
      if name == "Embedding" { return (.int64, [batch, .symbol("length")]) }
      // What becomes one axis may have been several.
      if name == "Flatten" { return (type, images) }
      if let count = spatialAxes(name) {
        let channels = int("num_features", member.state)
        images = images ?? [batch, channels.map { Dim($0) } ?? .symbol("channels")] + axes.suffix(count)
        if channels != nil { return (type, images) }
      }
      guard let weight = stored["\(member.home).weight"] else { continue }
      if name == "Linear", weight.shape.count == 2 {
        return (type, images ?? [batch, Dim(weight.shape[1])])
      }
      if name.hasPrefix("Conv"), weight.shape.count >= 3, weight.shape.count <= 5 {
        let isTransposed = name.hasPrefix("ConvTranspose")
        let groups = int("groups", member.state) ?? 1
        let channels =
          isTransposed ? weight.shape[0] : weight.shape[1].multipliedReportingOverflow(by: groups).partialValue
        return (type, [batch, Dim(channels)] + axes.suffix(weight.shape.count - 2))
      }
    }
    return (type, images)
  }

  /// How many axes behind the channels the images of the module have, by the first layer that says so.
  var imageAxes: Int? {
    layers.lazy.compactMap { member in
      let name = member.name
      if name.hasPrefix("Conv"), name.hasSuffix("d") { return name.dropLast().last?.wholeNumberValue }
      return spatialAxes(name)
    }.first
  }

  /// How many axes behind the channels a layer without weights of its own needs; nil where it takes several numbers.
  private func spatialAxes(_ name: String) -> Int? {
    let isOfImages = ["Pool", "Pad", "BatchNorm", "InstanceNorm"].contains { name.contains($0) }
    guard isOfImages, name != "BatchNorm1d", name.hasSuffix("d"), let digit = name.dropLast().last else { return nil }
    return digit.wholeNumberValue.flatMap { (1...3).contains($0) ? $0 : nil }
  }
}
