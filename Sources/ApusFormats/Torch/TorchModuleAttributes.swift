// What modules of torch.nn say beside their tensors: attributes as arguments, and what no rule follows.

import ApusContainers
import ApusGraph

extension TorchLayers {
  /// Classes that compute something else in training.
  private static let changingInTraining = ["Dropout", "BatchNorm", "RReLU"]

  func int(_ attribute: String, _ state: PickleValue) -> Int? {
    pickle.value(attribute, in: state).flatMap { pickle.int($0) }
  }

  private func isTrue(_ attribute: String, _ state: PickleValue) -> Bool {
    pickle.value(attribute, in: state).flatMap { pickle.bool($0) } ?? false
  }

  private func text(_ attribute: String, _ state: PickleValue) -> String? {
    pickle.value(attribute, in: state).flatMap { pickle.string($0) }
  }

  /// The entries of a dictionary or OrderedDict among the attributes.
  private func entries(_ attribute: String, _ state: PickleValue) -> [(key: PickleValue, value: PickleValue)] {
    guard let value = pickle.value(attribute, in: state) else { return [] }
    if let entries = pickle.entries(value) { return entries }
    let pairs = pickle.object(value)?.pairs ?? []
    return stride(from: 0, to: pairs.count - 1, by: 2).map { (pairs[$0], pairs[$0 + 1]) }
  }

  /// True if the module has a parameter or buffer of that name that is not None.
  func has(_ tensor: String, _ state: PickleValue) -> Bool {
    (entries("_parameters", state) + entries("_buffers", state)).contains { key, value in
      guard key == .string(tensor), case .object = value else { return false }
      return true
    }
  }

  /// An attribute of a module as an argument; nil if it is none that rules know.
  private func argument(_ value: PickleValue) -> TorchArgument? {
    switch value {
    case .int(let number): return .size(.number(number))
    case .bool(let truth): return .bool(truth)
    case .float(let number): return .float(number)
    case .string(let text): return .string(text)
    case .none: return TorchArgument.none
    default:
      if let (symbol, parts) = pickle.call(value), symbol.description == "torch.Size", let first = parts.first {
        return sizes(first)
      }
      return sizes(value)
    }
  }

  private func sizes(_ value: PickleValue) -> TorchArgument? {
    guard let items = pickle.items(value) else { return nil }
    let numbers = items.compactMap { pickle.int($0) }
    return numbers.count == items.count ? .sizes(numbers.map { .number($0) }) : nil
  }

  /// The attributes of a layer as arguments of its operator.
  func arguments(
    of member: Member, _ layer: Layer, _ ledger: ImportLedger
  ) throws(LoadError) -> [(name: String, value: TorchArgument)] {
    var found: [(name: String, value: TorchArgument)] = []
    for (argument, attribute) in layer.attributes {
      guard let value = pickle.value(attribute, in: member.state) else { continue }
      if attribute == "padding", paddingMode(member) != nil {
        found.append((argument, .size(.number(0))))
      } else if let read = self.argument(value) {
        found.append((argument, read))
      } else {
        try ledger.report(
          "the attribute '\(attribute)' should be a number, a text or a list of integers", at: member.path,
          remedy: Self.remedy)
      }
    }
    // In evaluation, instances are normalized by their own statistics unless others were tracked.
    if member.name.hasPrefix("InstanceNorm") {
      found.append(("use_input_stats", .bool(!isTrue("track_running_stats", member.state))))
    }
    return found
  }

  /// Refuses a module whose hooks change what it computes.
  func checkHooks(_ state: PickleValue, at path: String, _ ledger: ImportLedger) {
    for hooks in ["_forward_pre_hooks", "_forward_hooks"] where !entries(hooks, state).isEmpty {
      ledger.refuse("what a hook does (\(hooks))", at: path, remedy: Self.remedy)
    }
  }

  private static let remedy = "Export the model: torch.export.save(torch.export.export(model, inputs), 'model.pt2')"

  /// Reports what changes the result of a layer and has no rule.
  func check(_ member: Member, _ ledger: ImportLedger) throws(LoadError) {
    if isTrue("return_indices", member.state) {
      try ledger.report(
        "return_indices=True makes \(member.name) give two results; a Sequential of one output was expected",
        at: member.path, remedy: Self.remedy)
    }
    if let norm = pickle.value("max_norm", in: member.state), norm != .none {
      try ledger.report(
        "max_norm makes \(member.name) change its table while it is read, which is not supported", at: member.path,
        remedy: "Apply it to the weight once and set max_norm to None before the module is saved")
    }
    let mode = text("padding_mode", member.state) ?? "zeros"
    if mode != "zeros", paddingMode(member) == nil || pads(of: member) == nil {
      try ledger.report(
        "padding with numbers and a padding_mode of zeros, reflect, replicate or circular was expected; "
          + "\(member.name) has the mode '\(mode)'",
        at: member.path, remedy: Self.remedy)
    }
  }

  /// Says once if the module was saved as it is in training.
  func noteTraining(_ ledger: ImportLedger) {
    let isOther = layers.contains { member in
      isTrue("training", member.state) && Self.changingInTraining.contains { member.name.contains($0) }
    }
    if isOther { ledger.note("the module was saved in training; it is read as it computes after eval()") }
  }

  // MARK: - Upsampling

  /// The operators of the modes; nil axes: one operator for every number of axes.
  private static let upsamplings: [String: (target: String, axes: Int?)] = [
    "nearest": ("upsample_nearest", nil), "nearest-exact": ("_upsample_nearest_exact", nil),
    "linear": ("upsample_linear", 1), "bilinear": ("upsample_bilinear", 2), "bicubic": ("upsample_bicubic", 2),
    "trilinear": ("upsample_trilinear", 3),
  ]

  /// The operator of an Upsample, and its arguments. How many axes one of the nearest elements has, other layers say.
  func upsampling(
    _ member: Member, _ ledger: ImportLedger
  ) throws(LoadError) -> (target: String, arguments: [(name: String, value: TorchArgument)]) {
    let mode = text("mode", member.state) ?? "nearest"
    let form = Self.upsamplings[mode]
    guard let form, let axes = form.axes ?? (member.name.hasSuffix("2d") ? 2 : imageAxes) else {
      let reason =
        form == nil ? "the mode '\(mode)' has no rule" : "no layer of the module says how many axes its images have"
      try ledger.report(reason, at: member.path, remedy: Self.remedy)
      return ("alias", [])
    }
    var found: [(name: String, value: TorchArgument)] = []
    found.append(("align_corners", .bool(isTrue("align_corners", member.state))))
    if let sizes = axisNumbers("size", member.state, axes) {
      found.append(("output_size", .sizes(sizes.map { .number(Int(exactly: $0) ?? 0) })))
    }
    if let factors = axisNumbers("scale_factor", member.state, axes) {
      found.append(("scale_factors", .floats(factors)))
    }
    return ("\(form.target)\(axes)d", found)
  }

  /// An attribute that is a number for all axes or one for each; nil if it is None or something else.
  private func axisNumbers(_ attribute: String, _ state: PickleValue, _ axes: Int) -> [Double]? {
    func number(_ value: PickleValue) -> Double? {
      switch value {
      case .float(let number): number
      default: pickle.int(value).map(Double.init)
      }
    }
    guard let value = pickle.value(attribute, in: state) else { return nil }
    if let all = number(value) { return [Double](repeating: all, count: axes) }
    let each = (pickle.items(value) ?? []).compactMap(number)
    return each.count == axes ? each : nil
  }

  // MARK: - Padding of convolutions

  /// How a convolution pads by something else than zeros.
  private func paddingMode(_ member: Member) -> String? {
    guard member.name.hasPrefix("Conv"), !member.name.hasPrefix("ConvTranspose"),
      let mode = text("padding_mode", member.state), ["reflect", "replicate", "circular"].contains(mode)
    else { return nil }
    return mode
  }

  /// The padding before a convolution that does not pad with zeros.
  func padding(before member: Member, of value: String) -> TorchNode? {
    guard let mode = paddingMode(member), let pads = pads(of: member) else { return nil }
    return TorchNode(
      target: "aten.pad.default",
      inputs: [
        ("self", .tensor(value)), ("pad", .sizes(pads.map { .number($0) })), ("mode", .string(mode)),
      ], outputs: [.tensor("\(member.path).padded")], name: "pad", module: member.path, isLeaf: false)
  }

  /// From the last axis to the first, before and behind each.
  private func pads(of member: Member) -> [Int]? {
    func numbers(_ attribute: String) -> [Int]? {
      guard let value = pickle.value(attribute, in: member.state), case .sizes(let sizes)? = argument(value) else {
        return nil
      }
      return sizes.compactMap { if case .number(let number) = $0 { number } else { nil } }
    }
    guard let kernel = numbers("kernel_size") else { return nil }
    guard let padding = text("padding", member.state) else {
      guard let padding = numbers("padding"), padding.count == kernel.count else { return nil }
      return padding.reversed().flatMap { [$0, $0] }
    }
    if padding == "valid" { return [Int](repeating: 0, count: 2 * kernel.count) }
    guard padding == "same", let dilation = numbers("dilation"), dilation.count == kernel.count else { return nil }
    var pads: [Int] = []
    for (size, step) in zip(kernel, dilation).reversed() {
      let (total, overflow) = step.multipliedReportingOverflow(by: max(size, 1) - 1)
      if overflow { return nil }
      pads += [total / 2, total - total / 2]
    }
    return pads
  }
}
