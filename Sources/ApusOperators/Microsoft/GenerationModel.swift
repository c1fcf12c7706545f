// The models that generate text, as operators hold them: a decoder, perhaps with an encoder, and their caches.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BeamSearch

import ApusGraph
import ApusTensor

/// What the graphs of a node look like.
struct GenerationForm: Sendable {
  /// 0: a decoder as GPT-2, 1: encoder and decoder as T5, 2: as Whisper.
  let type: Int
  let startToken: Int
  let padToken: Int
  let vocabulary: Int?
  let hasFirstDecoder: Bool
  /// Inputs of the decoder before its caches, and layers.
  let leading: Int
  let layers: Int
  /// The caches that the decoder takes: type, heads, columns of a head.
  let cacheType: DataType
  let heads: Int
  let size: Int
  /// The encoder computes the first logits and the caches of the decoder; else only the caches of its cross attention.
  let encoderDecodes: Bool
  /// The decoder takes all tokens, not just the newest.
  let takesAllTokens: Bool

  init(_ context: PrepareContext, _ attributes: GenerationAttributes) throws(OperatorError) {
    (type, startToken, padToken) = (attributes.modelType, attributes.startToken, attributes.padToken)
    vocabulary = attributes.vocabulary
    hasFirstDecoder = context.has("init_decoder")
    let decoder = try context.subgraph("decoder")
    let (inputs, outputs) = (decoder.inputs.count, decoder.outputs.count)
    if type == 0 {
      (leading, layers) = (3, outputs - 1)
      guard outputs >= 2, inputs >= leading + layers else {
        throw .invalid(
          "the decoder has \(inputs) inputs and \(outputs) outputs; expected input_ids, position_ids, attention_mask, "
            + "past_0 … and logits, present_0 …")
      }
      guard inputs == leading + layers else { throw GenerationForm.sharedCaches }
      if hasFirstDecoder {
        let first = try context.subgraph("init_decoder")
        guard first.inputs.count == inputs, first.outputs.count == outputs else {
          throw .invalid(
            "init_decoder has \(first.inputs.count) inputs and \(first.outputs.count) outputs; expected \(inputs) and "
              + "\(outputs), as decoder")
        }
      }
      (encoderDecodes, takesAllTokens) = (false, false)
    } else {
      layers = (outputs - 1) / 2
      let least = type == 1 ? 2 : 1
      guard outputs >= 3, outputs % 2 == 1, inputs >= least + 4 * layers else {
        throw .invalid(
          "the decoder has \(inputs) inputs and \(outputs) outputs; expected \(least) inputs and four caches a layer, "
            + "and logits and two caches a layer")
      }
      leading = inputs - 4 * layers
      guard leading <= least + 1 else { throw GenerationForm.sharedCaches }
      let encoder = try context.subgraph("encoder")
      encoderDecodes = type == 2 || encoder.inputs.count == 3
      let expected = encoderDecodes ? 2 + 4 * layers : 2 * layers
      guard encoder.inputs.count == (type == 1 && encoderDecodes ? 3 : 2), encoder.outputs.count == expected else {
        throw .invalid(
          "the encoder has \(encoder.inputs.count) inputs and \(encoder.outputs.count) outputs; expected \(expected) "
            + "outputs for \(layers) layers")
      }
      if !encoderDecodes && leading > least {
        throw .unsupported("the decoder takes encoder_hidden_states, which the encoder does not give")
      }
      let ids = decoder.describedInput(0).tensor?.shape
      takesAllTokens = ids?.count == 2 && ids?[1].known != 1
    }
    guard let cache = decoder.describedInput(leading).tensor else {
      throw .unsupported("the type of the caches is not known")
    }
    cacheType = cache.dataType
    let axes = type == 0 ? (2, 4) : (1, 3)
    guard let shape = cache.shape, shape.count == axes.1 + 1, let heads = shape[axes.0].known,
      let size = shape[axes.1].known, heads > 0, size > 0
    else {
      throw .unsupported(
        "the decoder's caches are \(cache.shape?.text ?? "unknown"); expected known numbers of heads and columns")
    }
    (self.heads, self.size) = (heads, size)
  }

  private static let sharedCaches = OperatorError.unsupported(
    "the decoder has caches that past and present share", remedy: "Export it without past_present_share_buffer")
}

/// A model while it generates. Rows are the sequences: `batch` × `beams` of them.
struct GenerationModel {
  private let form: GenerationForm
  private let beams: Int
  private let input: Tensor
  private let givenMask: Tensor?
  /// The tokens that each sequence starts with.
  let prompts: [[Int32]]
  /// By row; a decoder alone has both.
  private var positions: [Int32] = []
  private var mask: [[Int32]] = []
  /// What the decoder takes beside the tokens and the caches that grow.
  private var fixed: [Value] = []
  private var crossCaches: [Value] = []
  private var caches: [Tensor] = []

  var batch: Int { prompts.count }
  private var rows: Int { batch * beams }

  init(_ form: GenerationForm, _ parameters: GenerationParameters, _ inputs: [Value?]) throws(OperatorError) {
    self.form = form
    beams = parameters.beams
    input = try inputs.tensor(0)
    let rank = form.type == 2 ? 3 : 2
    guard input.rank == rank else { throw .mismatch("input_ids is \(input.shape); expected \(rank) axes") }
    let isBeam = parameters.isBeamSearch
    givenMask = inputs.optionalTensor(isBeam ? 9 : 6)
    if form.type == 2, isBeam, let given = inputs.optionalTensor(10) {
      prompts = try GenerationModel.rows(of: given, "decoder_input_ids")
      guard prompts.count == input.shape[0] else {
        throw .mismatch("decoder_input_ids is \(given.shape); expected \(input.shape[0]) rows")
      }
    } else if form.type == 0 {
      prompts = try GenerationModel.rows(of: input, "input_ids")
    } else {
      guard form.startToken >= 0 else { throw .mismatch("decoder_start_token_id is missing") }
      prompts = [[Int32]](repeating: [Int32(form.startToken)], count: input.shape[0])
    }
    let length = prompts.first?.count ?? 0
    guard parameters.maximumLength > length || prompts.isEmpty else {
      throw .mismatch("max_length is \(parameters.maximumLength); expected more than the \(length) tokens given")
    }
    if let givenMask, form.type != 2 {
      guard givenMask.shape == input.shape else {
        throw .mismatch("attention_mask is \(givenMask.shape); expected \(input.shape)")
      }
    }
  }

  private static func rows(of tensor: Tensor, _ name: String) throws(OperatorError) -> [[Int32]] {
    guard tensor.rank == 2, let elements = tensor.elements(as: Int32.self), tensor.shape[1] > 0 else {
      throw .mismatch("\(name) is \(tensor.dataType)\(tensor.shape); expected int32[batch, length]")
    }
    let width = tensor.shape[1]
    return (0..<tensor.shape[0]).map { Array(elements[$0 * width..<($0 + 1) * width]) }
  }

  // MARK: - Steps

  /// The logits behind the prompts, one row of the vocabulary for each row or image.
  mutating func start(_ context: any EagerContext) throws(OperatorError) -> Logits {
    form.type == 0 ? try startDecoder(context) : try startEncoder(context)
  }

  private mutating func startDecoder(_ context: any EagerContext) throws(OperatorError) -> Logits {
    let width = prompts.first?.count ?? 0
    var firstPositions: [Int32] = []
    let given = try givenMask.map { (mask) throws(OperatorError) in
      try GenerationModel.rows(of: mask, "attention_mask")
    }
    for (image, prompt) in prompts.enumerated() {
      var count: Int32 = 0
      var places: [Int32] = []
      for token in prompt {
        let isPadding = Int(token) == form.padToken
        places.append(isPadding ? 0 : count)
        if !isPadding { count += 1 }
      }
      let visible = given?[image] ?? prompt.map { Int($0) == form.padToken ? 0 : 1 }
      for _ in 0..<beams {
        firstPositions += places
        positions.append(count)
        mask.append(visible)
      }
    }
    let ids = prompts.flatMap { [[Int32]](repeating: $0, count: beams) }.joined()
    let empty = try context.allocate(form.cacheType, [2, rows, form.heads, 0, form.size])
    let feeds: [Value] = [
      .tensor(Tensor(Array(ids), shape: [rows, width])), .tensor(Tensor(firstPositions, shape: [rows, width])),
      .tensor(Tensor(Array(mask.joined()), shape: [rows, width])),
    ]
    let caches = [Value](repeating: .tensor(empty), count: form.layers)
    let name = form.hasFirstDecoder ? "init_decoder" : "decoder"
    return try keep(try context.run(subgraph: name, inputs: feeds + caches), context)
  }

  private mutating func startEncoder(_ context: any EagerContext) throws(OperatorError) -> Logits {
    var feeds: [Value] = [.tensor(input)]
    if form.type == 1 {
      let mask: Tensor
      if let givenMask { mask = givenMask } else { mask = try encoderMask() }
      feeds.append(.tensor(mask))
      fixed.append(.tensor(try repeated(mask, context)))
    }
    let ids = Tensor(Array(prompts.joined()), shape: [batch, prompts.first?.count ?? 0])
    if form.encoderDecodes { feeds.append(.tensor(ids)) }
    let results: [Value?] = try context.run(subgraph: "encoder", inputs: feeds)
    func expanded(_ range: Range<Int>) throws(OperatorError) -> [Tensor] {
      var tensors: [Tensor] = []
      for index in range { tensors.append(try repeated(results.tensor(index), context)) }
      return tensors
    }
    let hasHidden = form.leading > (form.type == 1 ? 2 : 1)
    if form.encoderDecodes {
      if hasHidden { fixed.append(.tensor(try expanded(1..<2)[0])) }
      caches = try expanded(2..<2 + 2 * form.layers)
      for cache in try expanded(2 + 2 * form.layers..<2 + 4 * form.layers) { crossCaches.append(.tensor(cache)) }
      return try Logits(results.tensor(0), form.vocabulary, context.allowance)
    }
    for cache in try expanded(0..<2 * form.layers) { crossCaches.append(.tensor(cache)) }
    let empty = try context.allocate(form.cacheType, [rows, form.heads, 0, form.size])
    caches = [Tensor](repeating: empty, count: 2 * form.layers)
    let starts = Array(prompts.flatMap { [[Int32]](repeating: $0, count: beams) }.joined())
    return try decode(Tensor(starts, shape: [rows, 1]), context)
  }

  /// 1 for tokens, 0 for padding before the first token.
  private func encoderMask() throws(OperatorError) -> Tensor {
    var visible: [Int32] = []
    for row in try GenerationModel.rows(of: input, "input_ids") {
      let first = row.firstIndex { Int($0) != form.padToken } ?? row.count
      visible += row.indices.map { $0 < first ? 0 : 1 }
    }
    return Tensor(visible, shape: input.shape)
  }

  /// The logits behind `tokens`, one a row, of which each continues the row that `origins` says. `sequences` end with
  /// them.
  mutating func advance(
    _ tokens: [Int32], origins: [Int]?, _ sequences: [[Int32]], _ context: any EagerContext
  ) throws(OperatorError) -> Logits {
    if let origins {
      for index in caches.indices {
        caches[index] = try rearranged(caches[index], axis: form.type == 0 ? 1 : 0, origins, context)
      }
    }
    if form.takesAllTokens {
      return try decode(Tensor(Array(sequences.joined()), shape: [rows, sequences.first?.count ?? 0]), context)
    }
    let ids = Tensor(tokens, shape: [rows, 1])
    guard form.type == 0 else { return try decode(ids, context) }
    for row in 0..<rows { mask[row].append(1) }
    fixed = [
      .tensor(Tensor(positions, shape: [rows, 1])),
      .tensor(Tensor(Array(mask.joined()), shape: [rows, mask.first?.count ?? 0])),
    ]
    for row in 0..<rows { positions[row] &+= 1 }
    return try decode(ids, context)
  }

  private mutating func decode(_ ids: Tensor, _ context: any EagerContext) throws(OperatorError) -> Logits {
    try context.check(allocating: 0)
    let inputs = [.tensor(ids)] + fixed + caches.map { .tensor($0) } + crossCaches
    return try keep(try context.run(subgraph: "decoder", inputs: inputs), context)
  }

  private mutating func keep(_ results: [Value], _ context: any EagerContext) throws(OperatorError) -> Logits {
    caches = []
    let values = results.map { Optional($0) }
    for index in 1..<results.count { caches.append(try values.tensor(index)) }
    return try Logits(values.tensor(0), form.vocabulary, context.allowance)
  }

  // MARK: - Rows

  /// Each image once for each beam.
  private func repeated(_ tensor: Tensor, _ context: any EagerContext) throws(OperatorError) -> Tensor {
    guard tensor.rank > 0, tensor.shape[0] == batch else {
      throw .mismatch("the encoder computes \(tensor.shape); expected \(batch) as the first extent")
    }
    return try rearranged(tensor, axis: 0, (0..<rows).map { $0 / beams }, context)
  }

  /// The elements at `rows` along an axis.
  private func rearranged(
    _ tensor: Tensor, axis: Int, _ rows: [Int], _ context: any EagerContext
  ) throws(OperatorError) -> Tensor {
    guard tensor.rank > axis, rows.allSatisfy({ $0 < tensor.shape[axis] }) else {
      throw .mismatch("a cache is \(tensor.shape); expected \(self.rows) on axis \(axis)")
    }
    var shape = tensor.shape
    shape[axis] = rows.count
    let result = try context.allocate(tensor.dataType, shape)
    let outer = shape.count(of: 0..<axis)
    let bytes = shape.count(of: axis + 1..<shape.rank) * tensor.dataType.byteWidth
    for line in 0..<outer where bytes > 0 {
      for (index, row) in rows.enumerated() {
        (result.storage.base + (line * rows.count + index) * bytes).copyMemory(
          from: tensor.base + (line * tensor.shape[axis] + row) * bytes, byteCount: bytes)
      }
    }
    withExtendedLifetime(tensor) {}
    return result
  }
}

/// The last logits of each sequence.
struct Logits {
  let rows: Int
  let vocabulary: Int
  private let values: [Float]

  /// `tensor`: [rows, length, vocabulary], of whose last axis `limit` elements count.
  init(_ tensor: Tensor, _ limit: Int?, _ allowance: Allowance) throws(OperatorError) {
    guard tensor.rank == 3, tensor.shape[1] > 0, tensor.shape[2] > 0 else {
      throw .mismatch("the logits are \(tensor.shape); expected [batch, length, vocabulary]")
    }
    let width = tensor.shape[2]
    vocabulary = limit ?? width
    guard vocabulary <= width else { throw .mismatch("vocab_size is \(vocabulary); the logits have \(width) columns") }
    rows = tensor.shape[0]
    var wide = tensor
    if tensor.dataType != .float32 {
      guard let convert = elementConverter(from: tensor.dataType, to: .float32) else {
        throw .unsupported("logits of \(tensor.dataType) are not supported")
      }
      wide = try tensor.converted(to: .float32, convert, allowance)
    }
    let all = wide.elements(as: Float.self) ?? []
    let (length, count) = (tensor.shape[1], vocabulary)
    values = (0..<rows).flatMap { row in
      let start = (row * length + length - 1) * width
      return all[start..<start + count]
    }
  }

  /// Throws unless there are as many as in the first step, whose number everything was made for.
  func require(vocabulary expected: Int) throws(OperatorError) {
    guard vocabulary == expected else {
      throw .mismatch("the logits have \(vocabulary) columns; expected \(expected), as in the first step")
    }
  }

  /// The logits of a row of `total`, which share those of their image if there are fewer.
  func row(_ index: Int, of total: Int) throws(OperatorError) -> ArraySlice<Float> {
    guard rows > 0, total % rows == 0 else { throw .mismatch("the logits have \(rows) rows; expected \(total)") }
    let row = index / (total / rows)
    return values[row * vocabulary..<(row + 1) * vocabulary]
  }
}
