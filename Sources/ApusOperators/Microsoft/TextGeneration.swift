// BeamSearch, GreedySearch, Sampling, WhisperBeamSearch: text, token by token, from the model that an attribute holds.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BeamSearch
// Versions: 1. Decoders whose caches are buffers shared by past and present, and cross_qk, are not supported.

import ApusGraph
import ApusTensor

/// One of the four operators.
struct TextGeneration: OperatorDefinition {
  enum Method: String, Sendable {
    case greedy = "GreedySearch"
    case sampling = "Sampling"
    case beam = "BeamSearch"
    case whisper = "WhisperBeamSearch"
  }

  let schema: OperatorSchema
  private let method: Method

  init(_ method: Method) {
    self.method = method
    var attributes: [AttributeSchema] = [
      .required("decoder", .graph), .int("decoder_start_token_id", default: -1), .optional("encoder", .graph),
      .required("eos_token_id", .int), .optional("init_decoder", .graph),
      .int("model_type", default: method == .whisper ? 2 : 0), .int("no_repeat_ngram_size", default: 0),
      .required("pad_token_id", .int), .int("vocab_size", default: -1),
    ]
    var inputs: [Parameter] = [.required("input_ids", "F"), .required("max_length", "I"), .optional("min_length", "I")]
    var outputs: [Parameter] = [.required("sequences", "I")]
    let masks: [Parameter] = [
      .optional("vocab_mask", "M"), .optional("prefix_vocab_mask", "M"), .optional("attention_mask", "I"),
    ]
    switch method {
    case .greedy: inputs += [.optional("repetition_penalty", "T")] + masks
    case .sampling:
      inputs += [.optional("repetition_penalty", "T")] + masks
      inputs += [.optional("presence_mask", "I"), .optional("seed", "I")]
      outputs.append(.optional("filtered_logits", "T"))
      attributes += [
        .int("custom", default: 0), .float("filter_value", default: -1e20), .int("min_tokens_to_keep", default: 0),
        .float("presence_penalty", default: 0), .float("temperature", default: 1), .float("top_p", default: 0),
      ]
    case .beam, .whisper:
      inputs += [
        .required("num_beams", "I"), .required("num_return_sequences", "I"), .optional("length_penalty", "T"),
        .optional("repetition_penalty", "T"),
      ]
      inputs += masks + [.optional("decoder_input_ids", "I"), .optional("logits_processor", "I")]
      outputs += [.optional("sequences_scores", "T"), .optional("scores", "T")]
      attributes.append(.int("early_stopping", default: 0))
    }
    if method == .whisper {
      inputs += [
        .optional("cross_qk_layer_head", "I"), .optional("extra_decoding_ids", "I"), .optional("temperature", "T"),
      ]
      outputs += [.optional("cross_qk", "V"), .optional("non_speech_probs", "T")]
      attributes += [
        .optional("beginning_timestamp_token_id", .int), .optional("decoder_output_cross_qk", .int),
        .optional("no_speech_token_id", .int), .optional("no_timestamps_token_id", .int),
        .optional("start_of_lm_token_id", .int), .optional("transcribe_token_id", .int),
        .optional("translate_token_id", .int),
      ]
    }
    let signature = (inputs: inputs, outputs: outputs, attributes: attributes)
    schema = OperatorSchema(
      method.rawValue, domain: "com.microsoft", versions: [1], inputs: signature.inputs, outputs: signature.outputs,
      attributes: signature.attributes,
      types: [
        "T": .float32, "F": [.int32, .float32, .float16], "I": .int32, "M": .int32, "V": .float32,
      ], traits: method == .sampling ? .random : [])
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    for name in ["encoder", "init_decoder", "decoder"] where context.has(name) {
      let graph = try context.subgraph(name)
      var facts = graph.inputs.indices.map { TextGeneration.generalized(graph.describedInput($0)) }
      // A decoder with caches takes the newest token alone, if it says so.
      if name == "decoder", try context.int("model_type") > 0, let ids = facts.first?.tensor,
        let declared = graph.describedInput(0).tensor?.shape, declared.count == 2, declared[1].known == 1
      {
        facts[0] = .tensor(ids.dataType, [.unknown, 1])
      }
      // What the encoder sees of the batch is known; the decoder sees it once for each beam.
      if name == "encoder", let first = facts.first?.tensor, let shape = context.shape(0) {
        facts[0] = .tensor(first.dataType, shape)
      }
      _ = try context.infer(subgraph: name, facts)
    }
    let batch = context.shape(0)?.first ?? .unknown
    let length = context.values(1)?.first ?? .unknown
    if method == .greedy || method == .sampling {
      context.set(0, .int32, [batch, length])
      return context.set(1, .float32, [batch, .unknown])
    }
    let beams = context.values(3)?.first ?? .unknown
    let returned = context.values(4)?.first ?? .unknown
    context.set(0, .int32, [batch, returned, length])
    context.set(1, .float32, [batch, returned])
    context.set(2, .float32, [.unknown, batch, beams, .unknown])
    context.set(3, .float32, [.unknown, .unknown, .unknown, .unknown, .unknown])
    context.set(4, .float32, [batch])
  }

  /// The declared type of a formal input with those extents that no run changes: of heads and columns.
  private static func generalized(_ fact: ValueFact) -> ValueFact {
    guard let tensor = fact.tensor, let shape = tensor.shape else { return fact.withoutShapes }
    let fixed: Set<Int> =
      switch shape.count {
      case 3: [2]
      case 4: [1, 3]
      case 5: [0, 2, 4]
      default: []
      }
    return .tensor(
      tensor.dataType,
      shape.enumerated().map { axis, dim in fixed.contains(axis) && dim.known != nil ? dim : .unknown })
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    if context.isWanted(3) || (context.optionalInt("decoder_output_cross_qk") ?? 0) != 0 {
      throw .unsupported("the output cross_qk is not supported")
    }
    let attributes = try GenerationAttributes(context)
    let form = try GenerationForm(context, attributes)
    let method = method
    return .eager { (inputs, context) throws(OperatorError) in
      let parameters = try GenerationParameters(inputs, attributes, method)
      var model = try GenerationModel(form, parameters, inputs)
      switch method {
      case .greedy, .sampling: return try parameters.generateGreedily(&model, isSampled: method == .sampling, context)
      case .beam, .whisper: return try parameters.generateByBeams(&model, context)
      }
    }
  }
}

/// The attributes of all four operators.
struct GenerationAttributes: Sendable {
  let modelType: Int
  let endToken: Int
  let padToken: Int
  let startToken: Int
  let repeatedRun: Int
  let vocabulary: Int?
  let stopsEarly: Bool
  let noSpeechToken: Int?
  /// The tokens of Whisper: of time 0; never allowed; not allowed behind the first time stamp.
  let firstTimestamp: Int?
  let never: [Int]
  let start: [Int]
  let sampling: SamplingOptions

  init(_ context: some OperatorContext) throws(OperatorError) {
    modelType = try context.int("model_type")
    guard (0...2).contains(modelType) else { throw .invalid("model_type is \(modelType); expected 0, 1 or 2") }
    (endToken, padToken) = (try context.int("eos_token_id"), try context.int("pad_token_id"))
    startToken = try context.int("decoder_start_token_id")
    let tokens = [("eos_token_id", endToken), ("pad_token_id", padToken), ("decoder_start_token_id", startToken)]
    let optional = [
      "no_speech_token_id", "beginning_timestamp_token_id", "no_timestamps_token_id", "start_of_lm_token_id",
      "translate_token_id", "transcribe_token_id",
    ].compactMap { name in context.optionalInt(name).map { (name, $0) } }
    for (name, token) in tokens + optional {
      guard token <= Int(Int32.max), token >= -1 else { throw .invalid("\(name) is \(token); expected a token") }
    }
    repeatedRun = max(0, try context.int("no_repeat_ngram_size"))
    let size = try context.int("vocab_size")
    vocabulary = size > 0 ? size : nil
    stopsEarly = context.optionalInt("early_stopping") == 1
    noSpeechToken = context.optionalInt("no_speech_token_id")
    firstTimestamp = context.optionalInt("beginning_timestamp_token_id")
    never = ["no_timestamps_token_id", "start_of_lm_token_id"].compactMap { context.optionalInt($0) }
    start = [startToken] + ["translate_token_id", "transcribe_token_id"].compactMap { context.optionalInt($0) }
    sampling = SamplingOptions(context)
  }
}

/// The attributes together with the inputs of a run.
struct GenerationParameters: Sendable {
  let attributes: GenerationAttributes
  let maximumLength: Int
  let minimumLength: Int
  let beams: Int
  let returned: Int
  let lengthPenalty: Float
  let seed: Int
  /// The inputs are those of BeamSearch, not of GreedySearch.
  let isBeamSearch: Bool
  /// The rules but for the size of the vocabulary.
  private let repetitionPenalty: Float
  private let temperature: Float
  private let mask: [Int32]?
  private let firstMask: [Int32]?
  private let presenceMask: [Int32]?
  private let usesTimestamps: Bool

  var endToken: Int { attributes.endToken }
  var padToken: Int { attributes.padToken }
  var stopsEarly: Bool { attributes.stopsEarly }

  private static let longest = 1 << 20
  private static let mostBeams = 1 << 10

  init(_ inputs: [Value?], _ attributes: GenerationAttributes, _ method: TextGeneration.Method) throws(OperatorError) {
    self.attributes = attributes
    func number(
      _ input: Int, _ name: String, _ range: ClosedRange<Int>, default value: Int?
    ) throws(OperatorError) -> Int {
      guard let given = try inputs.optionalTensor(input)?.singleInteger(name) ?? value else {
        throw .mismatch("\(name) is missing")
      }
      guard range.contains(given) else {
        throw .mismatch("\(name) is \(given); expected \(range.lowerBound) to \(range.upperBound)")
      }
      return given
    }
    func factor(_ input: Int, _ name: String) throws(OperatorError) -> Float {
      guard let tensor = inputs.optionalTensor(input) else { return 1 }
      guard let values = tensor.elements(as: Float.self), values.count == 1 else {
        throw .mismatch("\(name) is \(tensor.dataType)\(tensor.shape); expected one float32")
      }
      return values[0]
    }
    func masked(_ input: Int) -> [Int32]? { inputs.optionalTensor(input)?.elements(as: Int32.self) }
    let isBeam = method == .beam || method == .whisper
    isBeamSearch = isBeam
    maximumLength = try number(1, "max_length", 1...GenerationParameters.longest, default: nil)
    minimumLength = try number(2, "min_length", 0...max(0, maximumLength - 1), default: 0)
    beams = isBeam ? try number(3, "num_beams", 1...GenerationParameters.mostBeams, default: nil) : 1
    returned = isBeam ? try number(4, "num_return_sequences", 1...beams, default: nil) : 1
    lengthPenalty = isBeam ? try factor(5, "length_penalty") : 1
    repetitionPenalty = try factor(isBeam ? 6 : 3, "repetition_penalty")
    guard repetitionPenalty > 0 else {
      throw .mismatch("repetition_penalty is \(repetitionPenalty); expected more than 0")
    }
    (mask, firstMask) = (masked(isBeam ? 7 : 4), masked(isBeam ? 8 : 5))
    presenceMask = method == .sampling ? masked(7) : nil
    seed = method == .sampling ? try number(8, "seed", -1 << 31...1 << 31, default: 0) : 0
    temperature = method == .whisper ? try factor(14, "temperature") : attributes.sampling.temperature
    let processor = isBeam ? try number(11, "logits_processor", 0...1, default: 0) : 0
    usesTimestamps = processor == 1 && attributes.modelType == 2
  }

  /// The rules for a vocabulary.
  func rules(vocabulary: Int, batch: Int) throws(OperatorError) -> GenerationRules {
    for (name, mask, count) in [
      ("vocab_mask", mask, vocabulary), ("prefix_vocab_mask", firstMask, batch * vocabulary),
      ("presence_mask", presenceMask, batch * vocabulary),
    ] {
      if let mask, mask.count != count { throw .mismatch("\(name) has \(mask.count) elements; expected \(count)") }
    }
    var rules = GenerationRules(vocabulary: vocabulary)
    (rules.repetitionPenalty, rules.repeatedRun) = (repetitionPenalty, attributes.repeatedRun)
    rules.temperature = temperature
    (rules.mask, rules.firstMask) = (mask, firstMask)
    (rules.minimumLength, rules.endToken) = (minimumLength, endToken)
    if minimumLength > 0 || usesTimestamps {
      guard endToken >= 0, endToken < vocabulary else {
        throw .mismatch("eos_token_id is \(endToken); expected 0 to \(vocabulary - 1)")
      }
    }
    if let presenceMask { rules.presence = (presenceMask, attributes.sampling.presencePenalty) }
    if usesTimestamps {
      guard let first = attributes.firstTimestamp, first > 0, first < vocabulary else {
        throw .mismatch("beginning_timestamp_token_id must be a token of the vocabulary, 1 to \(vocabulary - 1)")
      }
      rules.timestamps = TimestampRule(
        first: first, vocabulary: vocabulary, never: attributes.never, start: attributes.start)
    }
    return rules
  }
}
