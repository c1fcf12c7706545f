// The options of `apus quantize`, `apus prune` and `apus cluster` as C and Python spell them: in JSON, by the names of
// the command line with underscores.

import ApusCompression

/// What a quantization makes of a model.
enum QuantizationRequest: RequestOptions {
  case integers(QuantizationOptions, QuantizationSteps, Target?)
  case weights(WeightQuantizationOptions)
  case halves(HalfConversionOptions)

  /// The accuracy that shall be reached.
  enum Target {
    case decibels(Double)
    /// As the caller measures it.
    case accuracy(Double)
  }

  init(_ members: inout RequestMembers) throws {
    func says(_ name: String) throws -> Bool { try members.take(name, as: Bool.self) ?? false }
    let (isStatic, isDynamic) = (try says("static"), try says("dynamic"))
    let halves = [try says("float16"), try says("bfloat16")]
    // Samples alone ask for static quantization, as on the command line, where nothing else is named.
    let hasWeights = try members.has("weights")
    let hasCalibration = try members.has("calibration")
    if [isStatic, isDynamic, halves[0], halves[1]].count(where: \.self) > 1 || hasWeights && halves.contains(true) {
      throw CompressionError(
        .invalidOption, "static, dynamic, float16 and bfloat16 exclude each other, and weights the last two")
    }
    if halves.contains(true) {
      self = .halves(try HalfConversionOptions(isBfloat16: halves[1], &members))
    } else if hasWeights, !isStatic, !isDynamic {
      self = .weights(try WeightQuantizationOptions(&members))
    } else if isStatic || isDynamic || members.hasSamples || hasCalibration {
      let options = try QuantizationOptions(isDynamic: isDynamic, &members)
      var steps = QuantizationSteps()
      try members.take("measure", into: &steps.measured)
      if steps.measured < 0 {
        throw CompressionError(.invalidOption, "measure is \(steps.measured); expected 0 or more samples")
      }
      if !isDynamic { try steps.takeFiles(&members) }
      if options.smoothing != nil, steps.saveCalibration != nil {
        throw CompressionError(
          .invalidOption, "save_calibration is given with smooth; the ranges would be those of other weights")
      }
      let target = try steps.takeTarget(&members)
      self = .integers(options, steps, target)
    } else {
      throw CompressionError(
        .invalidOption, "nothing says what is to be made",
        remedy: "Give samples to calibrate with, dynamic, the type of weights, float16 or bfloat16")
    }
  }
}

extension QuantizationSteps {
  /// What counts for static quantization only.
  fileprivate mutating func takeFiles(_ members: inout RequestMembers) throws {
    calibration = try members.take("calibration")
    saveCalibration = try members.take("save_calibration")
    tensorRTCache = try members.take("tensorrt_cache")
  }

  fileprivate mutating func takeTarget(_ members: inout RequestMembers) throws -> QuantizationRequest.Target? {
    try members.take("rank", into: &ranks)
    let decibels = try members.take("target_sqnr", as: Double.self)
    let accuracy = try members.take("target_accuracy", as: Double.self)
    if decibels != nil, accuracy != nil {
      throw CompressionError(.invalidOption, "target_sqnr and target_accuracy are given; expected one")
    }
    for target in [decibels, accuracy].compactMap(\.self) where !target.isFinite {
      throw CompressionError(.invalidOption, "a target of \(target); expected a number")
    }
    return accuracy.map { .accuracy($0) } ?? decibels.map { .decibels($0) }
  }
}

extension QuantizationOptions {
  fileprivate init(isDynamic: Bool, _ members: inout RequestMembers) throws {
    self.init()
    method = isDynamic ? .dynamic : .static
    try members.take("target", into: &target)
    try members.take("weights", into: &weights)
    if isDynamic, weights.bits != 8 {
      throw CompressionError(
        .invalidOption, "weights is '\(weights.rawValue)'; dynamic quantization has int8 and uint8")
    }
    var isPerTensor = false
    var hasZeroPoints = false
    try members.take("per_tensor", into: &isPerTensor)
    try members.take("asymmetric_weights", into: &hasZeroPoints)
    (isPerChannel, hasSymmetricWeights) = (!isPerTensor, !hasZeroPoints)
    if hasZeroPoints, target == .tensorrt {
      throw CompressionError(.invalidOption, "asymmetric_weights: TensorRT takes weights without zero points only")
    }
    smoothing = try members.take("smooth")
    if let smoothing, !(smoothing >= 0 && smoothing <= 1) {
      throw CompressionError(.invalidOption, "smooth is \(smoothing); expected a number from 0 to 1")
    }
    selection.included = try members.take("include") ?? []
    selection.excluded = try members.take("exclude") ?? []
    if !isDynamic { try takeStatic(&members) }
  }

  /// What counts for static quantization only.
  private mutating func takeStatic(_ members: inout RequestMembers) throws {
    if try members.has("activations") {
      try members.take("activations", into: &activations)
      if let text = target.refusal(ofActivations: activations) { throw CompressionError(.invalidOption, text) }
    }
    if activations.bits == 4 {
      throw CompressionError(
        .invalidOption, "activations is '\(activations.rawValue)'; expected int8, uint8, int16 or uint16")
    }
    try members.take("symmetric", into: &hasSymmetricActivations)
    try members.take("format", into: &format)
    try members.take("overrides", into: &overrides)
    try members.take("equalize", into: &equalizesLayers)
    try members.take("correct_bias", into: &correctsBiases)
    try members.take("adaround", into: &roundsAdaptively)
    range = try RangeMethod(&members)
  }
}

extension RangeMethod {
  fileprivate init(_ members: inout RequestMembers) throws {
    let name = try members.take("range", as: String.self) ?? "minmax"
    let percentage = name == "percentile" ? try members.take("percentile", as: Double.self) ?? 99.99 : 99.99
    guard let method = RangeMethod(named: name, percentile: percentage) else {
      throw CompressionError(
        .invalidOption, "range is '\(name)'; expected one of \(RangeMethod.names.joined(separator: ", "))")
    }
    guard percentage > 50, percentage <= 100 else {
      throw CompressionError(
        .invalidOption, "percentile is \(percentage); expected a number above 50, at most 100")
    }
    self = method
  }
}

extension WeightQuantizationOptions {
  fileprivate init(_ members: inout RequestMembers) throws {
    self.init()
    try members.take("weights", into: &type)
    blockSize = try members.take("block") ?? blockSize
    // One scale a channel.
    if blockSize == 0 { blockSize = nil }
    try members.take("method", into: &method)
    try members.take("weight_format", into: &format)
    usesZeroPoints = try members.take("zero_points")
    // Pairs, since the members of an object have no order.
    for pair in try members.take("weight_type", as: [[String]].self) ?? [] {
      guard let pattern = pair.first, let name = pair.last, pair.count == 2 else {
        throw CompressionError(.invalidOption, "weight_type has \(pair); expected [pattern, type]")
      }
      guard let type = ElementType(rawValue: name) else {
        let types = ElementType.allCases.map(\.rawValue).joined(separator: ", ")
        throw CompressionError(.invalidOption, "weight_type of '\(pattern)' is '\(name)'; expected one of \(types)")
      }
      types.append((pattern, type))
    }
    try members.take("tables", into: &includesTables)
    try members.take("minimum_elements", into: &minimumElements)
    try members.take("accuracy_level", into: &accuracyLevel)
    try members.take("include", into: &include)
    try members.take("exclude", into: &exclude)
    if method == .compensated {
      try members.take("damping", into: &damping)
      try members.take("act_order", into: &ordersByActivation)
      try members.take("sweeps", into: &descentSweeps)
    }
    try check()
  }
}

extension HalfConversionOptions {
  init(isBfloat16: Bool, _ members: inout RequestMembers) throws {
    self.init()
    type = isBfloat16 ? .bfloat16 : .float16
    try members.take("keep_io", into: &keepsInterface)
    try members.take("keep_sensitive", into: &keepsSensitive)
    try members.take("keep", into: &keep)
  }
}

/// What is pruned.
struct PruningRequest: RequestOptions {
  let options: PruningOptions

  init(_ members: inout RequestMembers) throws {
    let magnitude = try members.take("magnitude", as: Double.self)
    let structured = try members.take("structured", as: Double.self)
    let pattern = try members.take("pattern", as: String.self)
    let parameters = try members.take("target_params", as: Double.self)
    let multiplyAdds = try members.take("target_macs", as: Double.self)
    let said = [magnitude != nil, structured != nil, pattern != nil].count(where: \.self)
    guard said == 1 || said == 0 && (parameters ?? multiplyAdds) != nil else {
      throw CompressionError(
        .invalidOption, "expected one of magnitude, pattern and structured, or of target_params and target_macs")
    }
    var options = PruningOptions(.structured, fraction: magnitude ?? structured ?? 0)
    if magnitude != nil { options.method = .magnitude }
    if let pattern {
      let numbers = pattern.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
      guard numbers.count == 2, let kept = numbers[0], let group = numbers[1] else {
        throw CompressionError(.invalidOption, "pattern is '\(pattern)'; expected N:M with 0 < N < M, as in 2:4")
      }
      options.method = .pattern(kept: kept, group: group)
    } else {
      (options.parameterTarget, options.multiplyAddTarget) = (parameters, multiplyAdds)
      try members.take("global", into: &options.isGlobal)
      if !options.isGlobal { try members.take("fractions", into: &options.fractions) }
    }
    if options.method == .structured {
      try members.take("importance", into: &options.importance)
      try members.take("norm", into: &options.norm)
      try members.take("multiple", into: &options.channelMultiple)
    }
    try members.take("include", into: &options.selection.include)
    try members.take("exclude", into: &options.selection.exclude)
    if pattern != nil, (parameters ?? multiplyAdds) != nil {
      throw CompressionError(.invalidOption, "a pattern says itself how many elements go; expected no target")
    }
    self.options = options
  }
}

/// What is clustered.
struct ClusteringRequest: RequestOptions {
  let options: ClusteringOptions

  init(_ members: inout RequestMembers) throws {
    guard let codebook = try members.take("codebook", as: Int.self), (2...65536).contains(codebook) else {
      throw CompressionError(.invalidOption, "codebook is missing or out of range; expected 2 to 65536 values")
    }
    var options = ClusteringOptions(codebook: codebook)
    try members.take("by_magnitude", into: &options.isWeightedByMagnitude)
    try members.take("keep_zeros", into: &options.keepsZeros)
    try members.take("indices", into: &options.writesIndices)
    try members.take("include", into: &options.selection.include)
    try members.take("exclude", into: &options.selection.exclude)
    self.options = options
  }
}
