// Runs one model over samples and counts: its outputs by name, its state, its time.

import Apus
import ApusFormats
import ArgumentParser

/// One of the models that are measured.
struct AccuracyRun {
  let model: Model
  private(set) var meter: AccuracyMeter?
  private(set) var predictions: [Prediction] = []
  /// Milliseconds of each run.
  private(set) var times: [Double] = []
  /// Samples that ran.
  private(set) var samples = 0

  private var feed: StateFeed
  private let arguments: AccuracyArguments
  private let scores: String

  init(_ model: Model, _ arguments: AccuracyArguments, _ samples: Samples, feed: [String]) throws {
    (self.model, self.arguments) = (model, arguments)
    scores = try Self.output(arguments.scores, "--scores", model)
    _ = try arguments.boxes.map { try Self.output($0, "--boxes", model) }
    _ = try arguments.classes.map { try Self.output($0, "--classes", model) }
    self.feed = try StateFeed(
      feed, constants: samples.constants, inputs: model.inputs, outputs: model.outputs.map(\.name))
  }

  /// The name of an output that there is; without one the first of floats, else one of maps, else the first.
  private static func output(_ name: String?, _ option: String, _ model: Model) throws -> String {
    let names = model.outputs.map(\.name)
    if let name {
      if names.contains(name) { return name }
      throw InputError(
        "\(option): there is no output '\(name.printable())'; "
          + NearMiss.choices(name, among: names, "outputs are \(names.joined(separator: ", "))"))
    }
    let found =
      model.outputs.first { $0.dataType?.isFloat ?? false } ?? model.outputs.first { $0.dataType == nil }
      ?? model.outputs.first
    guard let found else { throw InputError("the model has no outputs") }
    return found.name
  }

  /// Runs the model. What it said of each sample is in `predictions`.
  ///
  /// - Returns: the values of the output that is compared, one a sample.
  mutating func run(_ sample: Sample, task: (SampleLabel, Value, [String]) throws -> AccuracyTask, _ shared: Shared)
    throws
    -> [Value]
  {
    let inputs = feed.inputs(for: sample)
    let start = ContinuousClock.now
    let outputs: [String: Value]
    do { outputs = try model.run(values: inputs) } catch {
      throw InputError("sample '\(sample.name.printable())': \(error)")
    }
    times.append((ContinuousClock.now - start) / .milliseconds(1))
    samples += sample.count
    feed.take(outputs)
    predictions.removeAll(keepingCapacity: true)
    var values: [Value] = []
    for index in 0..<sample.count {
      let value = try entry(scores, outputs, index, sample)
      values.append(value)
      if meter == nil, let label = sample.labels[index] {
        let input = model.inputs.first { ($0.dimensions?.count ?? 0) >= 3 } ?? model.inputs.first
        meter = try AccuracyMeter(
          try task(label, value, shared.classNames), arguments, classNames: shared.classNames, tokens: shared.tokens,
          input: input)
      }
      guard meter != nil else {
        predictions.append(Prediction(prediction: value.tensor.map(AccuracyMeter.text) ?? ""))
        continue
      }
      let boxes = try arguments.boxes.flatMap { try entry($0, outputs, index, sample).tensor }
      let classes = try arguments.classes.flatMap { try entry($0, outputs, index, sample).tensor }
      if let prediction = try meter?.add(
        AccuracyMeter.Outputs(scores: value, boxes: boxes, classes: classes), sample.labels[index],
        sample: sample.names[index])
      {
        predictions.append(prediction)
      }
    }
    return values
  }

  /// What is the same for all models.
  struct Shared {
    var classNames: [String]
    var tokens: [String]
  }

  /// The part of an output that belongs to one sample.
  private func entry(_ name: String, _ outputs: [String: Value], _ index: Int, _ sample: Sample) throws -> Value {
    switch outputs[name] {
    case .tensor(let tensor)?:
      if let entry = tensor.entry(index, of: sample.count) { return .tensor(entry) }
      throw InputError(
        "sample '\(sample.names[index].printable())': output '\(name.printable())' is \(tensor.dataType)"
          + "\(tensor.shape) for \(sample.count) samples; expected that many along the first axis. Leave out --batch")
    case .sequence(let values, _)? where values.count == sample.count: return values[index]
    case let value?: return value
    case nil: throw InputError("the model has given no output '\(name.printable())'")
    }
  }
}

/// How far two models are from each other on the same samples.
struct AccuracyComparison {
  private(set) var samples = 0
  private var agreeing = 0
  private var classes = 0
  private var largest = 0.0
  private var largestAt = ""
  private var cosines = EmbeddingAccuracy()
  private var strange = 0

  /// Adds the outputs of a sample, and the class that each model says.
  mutating func add(_ a: Value, _ b: Value, _ first: Prediction, _ second: Prediction, sample: String) throws {
    samples += 1
    if let one = first.classIndex, let other = second.classIndex {
      classes += 1
      agreeing += one == other ? 1 : 0
    }
    guard let x = a.tensor, let y = b.tensor, x.dataType != .string, y.dataType != .string else { return }
    guard x.shape == y.shape else {
      throw InputError(
        "sample '\(sample.printable())': the models give \(x.dataType)\(x.shape) and \(y.dataType)\(y.shape), which "
          + "cannot be compared; name other outputs by --scores")
    }
    let (left, right) = (x.doubles, y.doubles)
    if x.dataType.isFloat, left.count > 1 {
      cosines.add(output: left, truth: right)
      if first.classIndex == nil || second.classIndex == nil, x.rank == 1 {
        classes += 1
        agreeing += ClassificationAccuracy.largest(left) == ClassificationAccuracy.largest(right) ? 1 : 0
      }
    }
    for (p, q) in zip(left, right) where p != q {
      if p.isNaN, q.isNaN { continue }
      let difference = abs(p - q)
      if !difference.isFinite {
        strange += 1
      } else if difference > largest {
        (largest, largestAt) = (difference, sample)
      }
    }
  }

  /// The figures, and the sample with the largest difference.
  func metrics(pairs: ([Double], [Double])) -> (metrics: [AccuracyMetric], worst: String) {
    var metrics: [AccuracyMetric] = []
    metrics.append(
      classes > 0
        ? AccuracyMetric("agreement", Double(agreeing) / Double(classes))
        : AccuracyMetric("agreement", undefined: "the outputs are no scores of classes"))
    metrics.append(
      strange > 0
        ? AccuracyMetric("largest_difference", undefined: "\(strange) numbers are finite in one model only")
        : AccuracyMetric("largest_difference", largest))
    metrics += cosines.report.metrics
    if !pairs.0.isEmpty {
      metrics.append(
        RankStatistics.spearman(pairs.0, pairs.1).map { AccuracyMetric("spearman", $0) }
          ?? AccuracyMetric("spearman", undefined: "fewer than two pairs, or similarities that do not vary"))
    }
    return (metrics, largestAt)
  }
}
