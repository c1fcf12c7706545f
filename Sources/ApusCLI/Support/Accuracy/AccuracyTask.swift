// What a model is for, and which figures say how well it does that.

import Apus
import ApusFormats
import ArgumentParser

/// A kind of truth, with the figures that belong to it.
enum AccuracyTask: String, CaseIterable {
  case classification, segmentation, detection, transcription, regression, embedding, pairs

  /// The names of its figures.
  var metrics: [String] {
    switch self {
    case .classification: ["top1", "top5", "macro_f1", "balanced_accuracy", "auc"]
    case .segmentation: ["miou", "pixel_accuracy"]
    case .detection: ["map50", "map50_95"]
    case .transcription: ["wer", "cer", "token_error_rate", "exact"]
    case .regression: ["mae", "rmse", "r2"]
    case .embedding: ["cosine", "least_cosine"]
    case .pairs: ["spearman", "pearson"]
    }
  }

  /// Figures of which less is better.
  static let errors: Set<String> = ["wer", "cer", "token_error_rate", "mae", "rmse"]

  static var allMetrics: [String] { allCases.flatMap(\.metrics) }

  /// The task that all of `metrics` belong to; nil without any.
  init?(metrics: [String]) throws(ValidationError) {
    let names = metrics.map { $0.replacing("-", with: "_") }
    for name in names where !Self.allMetrics.contains(name) {
      throw ValidationError(
        "--metric: there is no figure '\(name)'; "
          + NearMiss.choices(name, among: Self.allMetrics, "figures are \(Self.allMetrics.joined(separator: ", "))"))
    }
    guard let first = names.first, let task = Self.allCases.first(where: { $0.metrics.contains(first) }) else {
      return nil
    }
    if let other = names.first(where: { !task.metrics.contains($0) }) {
      throw ValidationError(
        "--metric: \(first) is a figure of \(task.rawValue), \(other) is not; expected figures of one kind: "
          + task.metrics.joined(separator: ", "))
    }
    self = task
  }

  /// The task that the first label and output speak of; nil if they leave it open.
  init?(label: SampleLabel, output: Value, hasTokens: Bool, classNames: [String]) {
    let tensor = output.tensor
    let isSingle = tensor.map { $0.count == 1 } ?? false
    switch label {
    case _ where hasTokens: self = .transcription
    case .objects: self = .detection
    case .classIndex: self = .classification
    case _ where tensor == nil: self = .classification
    case .text(let text):
      let isOneScore = isSingle && tensor?.dataType.isFloat ?? false
      if tensor?.dataType == .string {
        // Names of classes are single words.
        let words = [text] + (tensor?.strings ?? [])
        self = isSingle && !words.contains { $0.contains(where: \.isWhitespace) } ? .classification : .transcription
      } else if classNames.contains(text) || Int(text) != nil && (!isOneScore || ["0", "1"].contains(text)) {
        self = .classification
      } else if Double(text) != nil {
        self = .regression
      } else {
        return nil
      }
    case .tensor(let truth):
      if truth.dataType == .string {
        self = tensor?.dataType == .string && classNames.isEmpty ? .transcription : .classification
      } else if truth.dataType.isFloat {
        self = .regression
      } else if truth.count == 1, truth.rank < 2 {
        let isClass = !isSingle || !(tensor?.dataType.isFloat ?? false) || [0, 1].contains(truth.integers?[0])
        self = isClass ? .classification : .regression
      } else if truth.rank >= 2 {
        self = .segmentation
      } else {
        return nil
      }
    }
  }
}

/// How outputs are read, and what is counted.
struct AccuracyArguments: ParsableArguments {
  @Option(
    help: """
      The figure to report: \(AccuracyTask.allMetrics.joined(separator: ", ")). May be repeated. [default: those of \
      the task that labels and outputs speak of]
      """)
  var metric: [String] = []

  @Option(help: "The output with scores, classes, numbers or text. [default: the first of floats, else the first]")
  var scores: String?

  @Option(
    parsing: .unconditional, help: "Of a single score, what says class 1: 0 where it is a logit.")
  var threshold = 0.5

  @Option(parsing: .unconditional, help: "Pixels of this class do not count; -1: all do.")
  var ignoreClass = 255

  @Option(
    help: "A file with one token a line, for classes that spell a text; ▁ or | is a blank.",
    completion: .file(extensions: ["txt"]))
  var tokens: String?

  @Option(
    parsing: .unconditional, help: "The class between tokens, in scores of temporal classification (CTC).")
  var blank = 0

  @Option(help: "Objects: the output with boxes; the same as --scores where 4 numbers stand before the scores.")
  var boxes: String?

  @Option(help: "Objects: the output with the class of each box, where each has one score.")
  var classes: String?

  @Option(help: "Objects: what the numbers of a box are.")
  var boxFormat = BoxFormat.xyxy

  @Option(help: "Objects: parts of the picture's width and height, or pixels of the model's input.")
  var boxUnits = BoxUnits.fraction

  @Option(parsing: .unconditional, help: "Objects: the class of scores that is none; the others move together.")
  var background: Int?

  @Option(parsing: .unconditional, help: "Objects: leave out scores of less.")
  var leastScore = 0.001

  @Option(parsing: .unconditional, help: "Objects: leave out boxes that overlap a better one of their class by more.")
  var nms: Double?

  @Option(help: "Objects: how precision is averaged.")
  var averagePrecision = DetectionAccuracy.Style.coco

  enum BoxFormat: String, ExpressibleByArgument, CaseIterable { case xyxy, yxyx, xywh, cxcywh }
  enum BoxUnits: String, ExpressibleByArgument, CaseIterable { case fraction, pixel }

  func validate() throws {
    _ = try AccuracyTask(metrics: metric)
    try OptionValues.check(blank, "--blank", 0...Int.max)
    try OptionValues.check(background, "--background", 0...Int.max)
    if let nms, !(0...1).contains(nms) { throw ValidationError("--nms is \(nms); expected 0 to 1") }
    if threshold.isNaN || leastScore.isNaN { throw ValidationError("--threshold and --least-score are numbers") }
    if boxes == nil, classes != nil { throw ValidationError("--classes is for objects; give --boxes too") }
  }
}

extension DetectionAccuracy.Style: ExpressibleByArgument {}
