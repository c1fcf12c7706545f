// What is said of the accuracy of a model: figures that have a value, or a reason why they have none.

/// A figure of accuracy.
public struct AccuracyMetric: Sendable, Hashable {
  /// `top1`, `macro_f1`, `map50`, …; docs/accuracy.md says what each is.
  public let name: String
  /// nil where the samples do not define the figure, as an area under a curve with one class only.
  public let value: Double?
  /// Why there is no value; empty if there is one.
  public let reason: String
  /// Where the value lies in 95 of 100 such draws of samples; nil where that is not usually stated.
  public let interval: ClosedRange<Double>?

  public init(_ name: String, _ value: Double, interval: ClosedRange<Double>? = nil) {
    (self.name, self.value, self.reason, self.interval) = (name, value, "", interval)
  }

  public init(_ name: String, undefined reason: String) {
    (self.name, value, self.reason, interval) = (name, nil, reason, nil)
  }

  /// A quotient; undefined, for `reason`, if `total` is 0.
  init(_ name: String, _ part: Double, of total: Double, otherwise reason: @autoclosure () -> String) {
    if total == 0 { self.init(name, undefined: reason()) } else { self.init(name, part / total) }
  }

  /// A share of `total` samples, with its interval by Wilson; undefined without samples.
  init(_ name: String, share count: Int, of total: Int) {
    if total == 0 {
      self.init(name, undefined: "there are no samples")
    } else {
      self.init(name, Double(count) / Double(total), interval: WilsonInterval.of(count, in: total))
    }
  }
}

/// The figures of one class.
public struct ClassFigures: Sendable, Hashable {
  public let index: Int
  /// Samples, pixels or objects of the class.
  public let count: Int
  public let metrics: [AccuracyMetric]
}

/// How right a model is on samples whose truth is known.
public struct AccuracyReport: Sendable, Hashable {
  public var samples: Int
  public var metrics: [AccuracyMetric]
  /// In the order of their numbers; empty where there are no classes.
  public var classes: [ClassFigures]
  /// Row: the true class; column: the predicted one. nil where there are no classes, or more than 256.
  public var confusion: [[Int]]?
  /// How figures were computed where that is not obvious.
  public struct Note: Sendable, Hashable {
    public let text: String
    /// The figure that it is about; nil: all.
    public let metric: String?

    public init(_ text: String, of metric: String? = nil) { (self.text, self.metric) = (text, metric) }
  }

  public var notes: [Note]

  public init(
    samples: Int, metrics: [AccuracyMetric], classes: [ClassFigures] = [], confusion: [[Int]]? = nil,
    notes: [Note] = []
  ) {
    (self.samples, self.metrics, self.classes) = (samples, metrics, classes)
    (self.confusion, self.notes) = (confusion, notes)
  }

  /// The figure of that name; nil if there is none.
  public subscript(name: String) -> AccuracyMetric? { metrics.first { $0.name == name } }
}

/// E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
enum WilsonInterval {
  /// The 97.5th percentile of the normal distribution.
  private static let z = 1.959963984540054

  /// Where the probability of a success lies with 95 % confidence after `count` successes in `total` trials.
  static func of(_ count: Int, in total: Int) -> ClosedRange<Double> {
    let (n, p) = (Double(total), Double(count) / Double(total))
    let denominator = 1 + z * z / n
    let middle = (p + z * z / (2 * n)) / denominator
    let half = z / denominator * (p * (1 - p) / n + z * z / (4 * n * n)).squareRoot()
    // At no and at all successes an end is exact, which rounding would miss.
    return (count == 0 ? 0 : max(0, middle - half))...(count == total ? 1 : min(1, middle + half))
  }
}
