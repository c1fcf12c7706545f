// One pass of one or two models over all samples, and its report as text and as JSON.

import Apus
import ApusFormats

/// One pass over all samples, and what it came to.
struct AccuracySession {
  private var first: AccuracyRun
  private var second: AccuracyRun?
  private var comparison = AccuracyComparison()
  private let metricNames: [String]
  private var task: AccuracyTask?
  private var classNames: [String]

  private static let progressInterval = Duration.milliseconds(200)

  /// - Parameters:
  ///   - other: runs on the same samples.
  ///   - feed: what outputs are inputs of the next sample, as `StateFeed` reads it.
  ///   - predictions: the file for what the model says of each sample.
  init(
    _ arguments: AccuracyArguments, feed: [String], _ model: Model, against other: Model? = nil,
    predictions: String? = nil, _ samples: inout Samples
  ) throws {
    metricNames = arguments.metric.map { $0.replacing("-", with: "_") }
    // Only objects have boxes.
    let told = try AccuracyTask(metrics: arguments.metric)
    let wanted = told ?? (arguments.boxes == nil ? nil : .detection)
    let tokens = try arguments.tokens.map { try TextLines.lines(ofFile: $0) } ?? []
    first = try AccuracyRun(model, arguments, samples, feed: feed)
    second = try other.map { try AccuracyRun($0, arguments, samples, feed: feed) }
    classNames = samples.classNames
    if wanted == .detection, arguments.boxes == nil {
      throw InputError(
        "--boxes is missing: the output with boxes, of " + model.outputs.map(\.name).joined(separator: ", "))
    }
    if let path = predictions {
      var file = try PredictionsFile(path: path)
      try pass(&samples, wanted, tokens) { prediction, name in try file.add(prediction, sample: name) }
      try file.commit()
    } else {
      try pass(&samples, wanted, tokens) { _, _ in }
      try check()
    }
  }

  /// The first of the figures that were asked for, or of all; nil if there is none.
  var figure: AccuracyMetric? { metrics(first).first }

  /// Throws if there is nothing to say.
  private func check() throws {
    if first.meter != nil || second != nil { return }
    throw InputError(
      "the samples have no labels; expected folders named by class, --labels FILE, an array or a column 'label', or "
        + "--label-array. Without labels --against and --predictions are possible")
  }

  private mutating func pass(
    _ samples: inout Samples, _ wanted: AccuracyTask?, _ tokens: [String],
    _ use: (Prediction, String) throws -> Void
  ) throws {
    let shared = AccuracyRun.Shared(classNames: samples.classNames, tokens: tokens)
    var shown = ContinuousClock.now
    var task = wanted
    func taskOf(_ label: SampleLabel, _ output: Value, _ names: [String]) throws -> AccuracyTask {
      if let task { return task }
      guard let told = AccuracyTask(label: label, output: output, hasTokens: !tokens.isEmpty, classNames: names) else {
        throw InputError(
          "labels and outputs (\(output.type)) leave open what the model is for; name a figure by --metric: "
            + AccuracyTask.allMetrics.joined(separator: ", "))
      }
      task = told
      Console.note("figures of \(told.rawValue), as labels and outputs say; --metric names others")
      return told
    }
    while let sample = try samples.next() {
      let values = try first.run(sample, task: taskOf, shared)
      for (prediction, name) in zip(first.predictions, sample.names) { try use(prediction, name) }
      if let others = try second?.run(sample, task: taskOf, shared) {
        for (index, name) in sample.names.enumerated() {
          try comparison.add(
            values[index], others[index], first.predictions[index], second?.predictions[index] ?? Prediction(),
            sample: name)
        }
      }
      if ContinuousClock.now - shown > Self.progressInterval {
        shown = ContinuousClock.now
        Console.progress("\(first.samples) of \(samples.count) samples")
      }
    }
    Console.progress("")
    self.task = first.meter == nil ? nil : task
    classNames = first.meter?.classNames ?? classNames
  }

  /// The figures that were asked for, or all.
  private func metrics(_ run: AccuracyRun?) -> [AccuracyMetric] {
    let all = run?.meter?.report.metrics ?? []
    return metricNames.isEmpty ? all : metricNames.compactMap { name in all.first { $0.name == name } }
  }

  private static func meanTime(_ run: AccuracyRun) -> Double {
    run.times.reduce(0, +) / Double(max(run.samples, 1))
  }

  private func className(_ index: Int) -> String { index < classNames.count ? classNames[index] : "\(index)" }
}

// MARK: - Text

extension AccuracySession {
  private static func text(_ metric: AccuracyMetric) -> String {
    guard let value = metric.value else { return "– (\(metric.reason))" }
    let interval = metric.interval.map { "  (\(rounded($0.lowerBound)) to \(rounded($0.upperBound)))" } ?? ""
    return rounded(value) + interval
  }

  private static func rounded(_ value: Double) -> String { ValueText.format(value) }

  func show(perClass: Bool) throws {
    let report = first.meter?.report
    var rows = [["samples", "\(first.samples)"]]
    let others = metrics(second)
    for metric in metrics(first) {
      let other = others.first { $0.name == metric.name }
      rows.append([metric.name, Self.text(metric), other.map(Self.text) ?? "", difference(metric, other)])
    }
    rows.append([
      "ms a sample", Self.rounded(Self.meanTime(first)), second.map { Self.rounded(Self.meanTime($0)) } ?? "", "",
    ])
    if second != nil { rows.insert(["", "model", "against", "difference"], at: 0) }
    let columns = second == nil ? 2 : 4
    let padded = rows.map { row in Array((row + ["", "", ""]).prefix(columns)) }
    try Console.print(Self.columns(padded))
    if second != nil { try Console.print("\n" + Self.columns(comparisonRows())) }
    if perClass, let classes = report?.classes, !classes.isEmpty {
      let header = ["class", "count"] + classes[0].metrics.map(\.name)
      try Console.print(
        "\n"
          + table(
            [header]
              + classes.map { figures in
                [className(figures.index).printable(limit: 40), "\(figures.count)"]
                  + figures.metrics.map { $0.value.map(Self.rounded) ?? "–" }
              }))
    }
    for note in report?.notes ?? [] { Console.note(note) }
  }

  private func comparisonRows() -> [[String]] {
    let (metrics, worst) = comparison.metrics(pairs: pairs)
    return metrics.map { metric in
      let place = metric.name == "largest_difference" && !worst.isEmpty ? "  at \(worst.printable())" : ""
      return [metric.name, Self.text(metric) + place]
    }
  }

  private var pairs: ([Double], [Double]) { (first.meter?.pairCosines ?? [], second?.meter?.pairCosines ?? []) }

  private func difference(_ a: AccuracyMetric, _ b: AccuracyMetric?) -> String {
    guard let x = a.value, let y = b?.value else { return "" }
    return (x >= y ? "+" : "") + Self.rounded(x - y)
  }

  /// Columns of text, all to the left.
  private static func columns(_ rows: [[String]]) -> String {
    let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      let cells = zip(row, widths).map { cell, width in cell + String(repeating: " ", count: width - cell.count) }
      var line = cells.joined(separator: "  ")
      while line.last == " " { line.removeLast() }
      return line
    }.joined(separator: "\n")
  }
}

// MARK: - JSON

extension AccuracySession {
  /// A figure; one that is not defined is null, with the reason.
  fileprivate struct Figure: Encodable {
    let metric: AccuracyMetric
    enum Key: CodingKey { case name, value, reason, interval }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: Key.self)
      try container.encode(metric.name, forKey: .name)
      try container.encode(metric.value, forKey: .value)
      if metric.value == nil { try container.encode(metric.reason, forKey: .reason) }
      if let interval = metric.interval {
        try container.encode([interval.lowerBound, interval.upperBound], forKey: .interval)
      }
    }
  }

  fileprivate struct ClassReport: Encodable {
    var name: String
    var index, count: Int
    var metrics: [Figure]
  }

  fileprivate struct ModelReport: Encodable {
    var metrics: [Figure]
    var millisecondsASample: Double
    var medianMilliseconds: Double
    var classes: [ClassReport]
    var confusion: [[Int]]?
    var notes: [String]
  }

  fileprivate struct Difference: Encodable {
    var name: String
    /// That of the model less that of the other; nil where one has none.
    var value: Double?
  }

  fileprivate struct Comparison: Encodable {
    var result: ModelReport
    var differences: [Difference]
    var metrics: [Figure]
    var worstSample: String
  }

  struct Report: Encodable {
    fileprivate var model: String
    fileprivate var task: String?
    fileprivate var samples: Int
    fileprivate var result: ModelReport
    fileprivate var against: Comparison?
  }

  func encoded(name: String) -> Report {
    Report(
      model: name, task: task?.rawValue, samples: first.samples, result: encoded(first),
      against: second.map { other in
        let (figures, worst) = comparison.metrics(pairs: pairs)
        let others = metrics(second)
        return Comparison(
          result: encoded(other),
          differences: metrics(first).map { metric in
            let other = others.first { $0.name == metric.name }?.value
            return Difference(name: metric.name, value: metric.value.flatMap { value in other.map { value - $0 } })
          }, metrics: figures.map(Figure.init), worstSample: worst)
      })
  }

  private func encoded(_ run: AccuracyRun) -> ModelReport {
    let report = run.meter?.report
    let times = run.times.sorted()
    return ModelReport(
      metrics: metrics(run).map(Figure.init), millisecondsASample: Self.meanTime(run),
      medianMilliseconds: times.isEmpty ? 0 : times[times.count / 2],
      classes: (report?.classes ?? []).map { figures in
        ClassReport(
          name: className(figures.index), index: figures.index, count: figures.count,
          metrics: figures.metrics.map(Figure.init))
      }, confusion: report?.confusion, notes: report?.notes ?? [])
  }
}
