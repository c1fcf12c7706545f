// Holds the outputs of one model against what is true, sample by sample.

import Apus
import ApusFormats
import ArgumentParser

/// What a model said of one sample, in words, and whether it was right.
struct Prediction {
  var label = ""
  var prediction = ""
  var score: Double?
  var isRight: Bool?
  /// The class; for agreement with another model.
  var classIndex: Int?
}

/// Counts for one model.
struct AccuracyMeter {
  private let task: AccuracyTask
  // Each by itself, not in an enum: what an enum holds is copied to be changed.
  private var classification: ClassificationAccuracy
  private var segmentation: SegmentationAccuracy
  private var detection: DetectionAccuracy
  private var transcription = TranscriptAccuracy()
  private var regression = RegressionAccuracy()
  private var embedding = EmbeddingAccuracy()
  private var pairs = PairAccuracy()

  private let arguments: AccuracyArguments
  private let outputs: DetectionOutputs
  private let tokens: [String]
  /// Classes by number; grows where a model gives names and nobody else does.
  private(set) var classNames: [String]
  private let learnsNames: Bool

  /// - Parameter input: that which takes pictures.
  init(
    _ task: AccuracyTask, _ arguments: AccuracyArguments, classNames: [String], tokens: [String],
    input: ValueDescription?
  ) throws {
    (self.task, self.arguments, self.classNames, self.tokens) = (task, arguments, classNames, tokens)
    learnsNames = classNames.isEmpty
    outputs = try DetectionOutputs(arguments, input: input)
    classification = ClassificationAccuracy(threshold: arguments.threshold)
    segmentation = SegmentationAccuracy(ignoredClass: arguments.ignoreClass < 0 ? nil : arguments.ignoreClass)
    detection = DetectionAccuracy(style: arguments.averagePrecision)
  }

  var report: AccuracyReport {
    switch task {
    case .classification: classification.report
    case .segmentation: segmentation.report
    case .detection: detection.report
    case .transcription: transcription.report
    case .regression: regression.report
    case .embedding: embedding.report
    case .pairs: pairs.report
    }
  }

  /// What is needed of the outputs of a sample.
  struct Outputs {
    var scores: Value
    var boxes: Tensor?
    var classes: Tensor?

    func tensor(_ sample: String) throws -> Tensor {
      guard case .tensor(let tensor) = scores else {
        throw InputError("sample '\(sample.printable())': the output is \(scores.type); expected a tensor")
      }
      return tensor
    }
  }

  /// Adds a sample.
  mutating func add(_ outputs: Outputs, _ label: SampleLabel?, sample: String) throws -> Prediction {
    do {
      switch task {
      case .classification: return try classify(outputs, label, sample)
      case .transcription: return try transcribe(outputs, label, sample)
      case .segmentation:
        try segmentation.add(
          output: outputs.tensor(sample), truth: tensor(label, sample), threshold: arguments.threshold)
        return Prediction()
      case .detection:
        guard let boxes = outputs.boxes else { throw InputError("--boxes is missing: the output with boxes") }
        let found = try self.outputs.detections(
          scores: outputs.tensor(sample), boxes: boxes, classes: outputs.classes, sample: sample)
        let truth = try self.outputs.objects(required(label, sample), sample: sample)
        try detection.add(found, truth: truth)
        return Prediction(label: "\(truth.count) objects", prediction: "\(found.count) detections")
      case .regression:
        let (output, truth) = (try outputs.tensor(sample), try tensor(label, sample))
        try regression.add(output: output, truth: truth)
        return Prediction(label: Self.text(truth), prediction: Self.text(output))
      case .embedding:
        let (output, truth) = (try outputs.tensor(sample), try tensor(label, sample))
        try embedding.add(output: output, truth: truth)
        return Prediction(score: Cosine.of(output.doubles, truth.doubles))
      case .pairs:
        try pairs.add(output: outputs.tensor(sample), truth: label.map { try tensor($0, sample).doubles.first } ?? nil)
        return Prediction()
      }
    } catch let error as CompressionError {
      throw InputError("sample '\(sample.printable())': \(error.message)")
    }
  }

  /// The cosines of the pairs so far; empty for other tasks.
  var pairCosines: [Double] { pairs.cosines }

  // MARK: - Labels

  private func required(_ label: SampleLabel?, _ sample: String) throws -> SampleLabel {
    if let label { return label }
    throw InputError(
      "sample '\(sample.printable())' has no label; expected folders named by class, --labels FILE.npy, an array or a "
        + "column 'label', or --label-array")
  }

  /// A label as numbers.
  private func tensor(_ label: SampleLabel?, _ sample: String) throws -> Tensor {
    switch try required(label, sample) {
    case .tensor(let tensor): return tensor
    case .classIndex(let index): return Tensor(scalar: index)
    case .text(let text):
      let words = text.split { $0.isWhitespace || $0 == "," || $0 == ";" }
      let numbers = words.compactMap { Double(wholeText: String($0)) }
      if !numbers.isEmpty, numbers.count == words.count { return Tensor(numbers) }
      throw InputError("sample '\(sample.printable())': the label '\(text.printable())' is no number")
    case .objects: throw InputError("sample '\(sample.printable())': the labels are boxes; expected numbers")
    }
  }

  private func classIndex(_ name: String, _ sample: String) throws -> Int {
    if let index = classNames.firstIndex(of: name) { return index }
    if let number = Int(name), number >= 0 { return number }
    throw InputError(
      "sample '\(sample.printable())': the label '\(name.printable())' is no number and no class; "
        + NearMiss.choices(
          name, among: classNames,
          classNames.isEmpty ? "give the names of the classes by --labels" : "there are \(classNames.count) classes"))
  }

  // MARK: - Classes

  private mutating func classify(
    _ outputs: Outputs, _ label: SampleLabel?, _ sample: String
  ) throws -> Prediction {
    let (scores, said) = try said(outputs.scores, sample)
    if outputs.scores.tensor?.dataType == .string, case .text(let name)? = label { learn(name) }
    let truth = try trueClass(required(label, sample), scores: scores.count, sample)
    var score: Double?
    if scores.isEmpty {
      try classification.add(predicted: said, label: truth)
    } else {
      try classification.add(scores: scores, label: truth)
      score = scores.count == 1 ? scores[0] : scores[said]
    }
    return Prediction(
      label: name(truth), prediction: name(said), score: score, isRight: truth == said, classIndex: said)
  }

  private mutating func learn(_ name: String) {
    if learnsNames, !classNames.contains(name), Int(name) == nil { classNames.append(name) }
  }

  /// The scores of an output, if it has any, and the class that it says.
  private mutating func said(_ output: Value, _ sample: String) throws -> (scores: [Double], index: Int) {
    var scores: [Double] = []
    switch output {
    case .tensor(let tensor) where tensor.dataType.isFloat:
      if tensor.count == 0 || tensor.rank > 1 && tensor.count != tensor.shape.last {
        throw InputError(
          "sample '\(sample.printable())': the scores are \(tensor.dataType)\(tensor.shape); expected one a class. "
            + "Name another output by --scores, or a task by --metric")
      }
      scores = tensor.doubles
    case .tensor(let tensor) where tensor.count == 1:
      if let number = tensor.integers?.first { return ([], number) }
      let name = tensor.strings?.first ?? ""
      learn(name)
      return ([], try classIndex(name, sample))
    case .map(let map):
      let keys = map.keys.strings ?? map.keys.integers?.map(String.init) ?? []
      if classNames.isEmpty { classNames = keys }
      let numbers = map.values.map { $0.tensor?.doubles.first ?? .nan }
      let entries = Dictionary(zip(keys, numbers)) { first, _ in first }
      scores = classNames.allSatisfy { entries[$0] != nil } ? classNames.map { entries[$0] ?? .nan } : numbers
    default:
      throw InputError(
        "sample '\(sample.printable())': the output is \(output.type); expected scores, a class or a map")
    }
    let isOne = scores.count == 1 && scores[0] >= arguments.threshold
    return (scores, scores.count == 1 ? (isOne ? 1 : 0) : ClassificationAccuracy.largest(scores))
  }

  private mutating func trueClass(_ label: SampleLabel, scores: Int, _ sample: String) throws -> Int {
    switch label {
    case .classIndex(let index): return index
    case .text(let name): return try classIndex(name, sample)
    case .tensor(let tensor):
      if let name = tensor.strings?.first, tensor.count == 1 { return try classIndex(name, sample) }
      if tensor.count == 1, let number = tensor.doubles.first, let index = Int(exactly: number) { return index }
      // One-hot.
      if tensor.count == scores, tensor.count > 1 { return ClassificationAccuracy.largest(tensor.doubles) }
      throw InputError(
        "sample '\(sample.printable())': the label is \(tensor.dataType)\(tensor.shape); expected the number of a class"
      )
    case .objects: throw InputError("sample '\(sample.printable())': the labels are boxes; expected classes")
    }
  }

  private func name(_ index: Int) -> String { index < classNames.count ? classNames[index] : "\(index)" }

  // MARK: - Texts

  private mutating func transcribe(_ outputs: Outputs, _ label: SampleLabel?, _ sample: String) throws -> Prediction {
    let tensor = try outputs.tensor(sample)
    let truth: (text: String?, path: [Int])
    switch try required(label, sample) {
    case .text(let text): truth = (text, [])
    case .tensor(let label):
      if let strings = label.strings {
        truth = (strings.joined(separator: " "), [])
      } else if let numbers = label.integers {
        // Labels of several lengths are filled up with negative numbers.
        truth = (nil, numbers.filter { $0 >= 0 })
      } else {
        fallthrough
      }
    default: throw InputError("sample '\(sample.printable())': expected a text or the numbers of tokens as its label")
    }
    var path: [Int] = []
    var text = tensor.strings?.joined(separator: " ")
    if text == nil {
      path =
        tensor.dataType.isFloat
        ? try CTCDecoder.bestPath(tensor, blank: arguments.blank) : (tensor.integers ?? []).filter { $0 >= 0 }
      if !tokens.isEmpty { text = try spelled(path, sample) }
    }
    if let trueText = truth.text {
      guard let text else { throw InputError("the outputs are numbers, the labels text; give the tokens by --tokens") }
      transcription.add(output: text, truth: trueText)
      return Prediction(label: trueText, prediction: text, isRight: text == trueText)
    }
    guard tensor.strings == nil else { throw InputError("the outputs are text, the labels numbers of tokens") }
    let texts = try text.map { (output: $0, truth: try spelled(truth.path, sample)) }
    transcription.add(output: path, truth: truth.path, texts: texts)
    func words(_ path: [Int]) -> String { path.map(String.init).joined(separator: " ") }
    return Prediction(
      label: texts?.truth ?? words(truth.path), prediction: text ?? words(path), isRight: path == truth.path)
  }

  private func spelled(_ path: [Int], _ sample: String) throws -> String {
    let words = try path.map { index in
      guard tokens.indices.contains(index) else {
        throw InputError("sample '\(sample.printable())': token \(index); --tokens has \(tokens.count)")
      }
      return tokens[index]
    }
    return words.joined().replacing("▁", with: " ").replacing("|", with: " ").split(separator: " ").joined(
      separator: " ")
  }

  /// Numbers in one line.
  static func text(_ tensor: Tensor) -> String {
    tensor.strings?.joined(separator: " ") ?? tensor.doubles.map { "\($0)" }.joined(separator: " ")
  }
}
