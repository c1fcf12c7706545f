// What detectors of TensorFlow Lite end with: boxes without those that overlap better ones.

import ApusContainers
import ApusGraph
import ApusTensor

extension TFLiteRules {
  static let detection: [String: TFLiteRule] = [
    "NON_MAX_SUPPRESSION_V4": TFLiteRule(suppress), "NON_MAX_SUPPRESSION_V5": TFLiteRule(suppressSoftly),
    "CUSTOM TFLite_Detection_PostProcess": TFLiteRule(detect),
  ]

  /// What stands for the score of a place that no box takes.
  private static let noScore = -Float.greatestFiniteMagnitude

  /// The places of the boxes [count, 4] that are kept, the best first, as rows of batch, class and box. `scores` are
  /// [classes, count].
  private static func kept(
    _ layer: TFLiteLayer, _ boxes: ValueID, _ scores: ValueID, most: ValueID, overlap: ValueID, least: ValueID
  ) throws(OperatorError) -> ValueID {
    let layers = layer.layers
    return try layers.emit(
      "NonMaxSuppression",
      [layers.unsqueeze(boxes, [0]), layers.unsqueeze(scores, [0]), most, overlap, least])
  }

  /// `count` elements or rows: those of `values`, then `filling`, a single row.
  private static func filled(
    _ layer: TFLiteLayer, _ values: ValueID, _ count: Int, _ filling: ValueID
  ) throws(OperatorError) -> ValueID {
    let layers = layer.layers
    let rank = try layers.rank(values)
    let shape = [count] + [Int](repeating: 1, count: rank - 1)
    var rows = try layers.emit("Expand", [filling, layers.integers(shape)])
    if rank == 2 { rows = try layers.emit("Expand", [rows, layers.integers([count, layers.extent(values, 1)])]) }
    return try layers.slice(layers.concatenate([values, rows], axis: 0), from: [0], to: [count], axes: [0])
  }

  /// Operands: boxes, scores, the most that are kept, largest overlap, least score. Results: places, their number.
  private static func suppress(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (places, _, count) = try suppressed(layer)
    return [places, count]
  }

  /// The same with a sigma behind, by which scores sink; only 0, by which they do not.
  private static func suppressSoftly(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    guard try layer.float(5, "the sigma") == 0 else {
      throw .unsupported("a suppression by which scores sink is not supported")
    }
    let (places, scores, count) = try suppressed(layer)
    return [places, scores, count]
  }

  private static func suppressed(
    _ layer: TFLiteLayer
  ) throws(OperatorError) -> (places: ValueID, scores: ValueID, count: ValueID) {
    let layers = layer.layers
    let (boxes, scores) = (try layer.input(0), try layer.input(1))
    let most = try layer.integer(2, "the number of boxes")
    guard most > 0, most <= 1 << 24 else { throw .invalid("a number of boxes was expected; it is \(most)") }
    let rows = try kept(
      layer, boxes, layers.unsqueeze(scores, [0]), most: layers.constant(Tensor(scalar: Int64(most))),
      overlap: layers.reshape(layer.input(3), [1]), least: layers.reshape(layer.input(4), [1]))
    let places = try layers.reshape(layers.slice(rows, from: [2], to: [3], axes: [1]), [-1])
    let chosen = try layers.emit("Gather", [scores, places], [("axis", .int(0))])
    let count = try layers.reshape(layers.emit("Shape", [places]), [])
    return (
      try layers.cast(filled(layer, places, most, layers.integers([0])), to: .int32),
      try filled(layer, chosen, most, layers.scalar(0)), try layers.cast(count, to: .int32)
    )
  }

  // MARK: - Boxes of anchors

  /// Options of a detector.
  private struct Detector {
    var detections: Int
    var classesOfBox: Int
    var detectionsOfClass: Int
    var classes: Int
    var isRegular: Bool
    var leastScore: Float
    var overlap: Float
    /// What offsets and sizes are divided by: y, x, height, width.
    var scales: [Float]

    init(_ bytes: ByteView) throws(LoadError) {
      let numbers = try TFLiteCustomOptions(bytes).numbers
      func number(_ name: String, _ range: ClosedRange<Double>, default value: Double?) throws(LoadError) -> Double {
        guard let number = numbers[name] ?? value, range.contains(number) else {
          throw .malformed("the option \(name) should be a number in \(range); it is \(numbers[name] ?? .nan)")
        }
        return number
      }
      let counts = 1...Double(1 << 20)
      detections = Int(try number("max_detections", counts, default: nil))
      classesOfBox = Int(try number("max_classes_per_detection", counts, default: nil))
      detectionsOfClass = Int(try number("detections_per_class", counts, default: 100))
      classes = Int(try number("num_classes", counts, default: nil))
      isRegular = try number("use_regular_nms", 0...1, default: 0) != 0
      leastScore = Float(try number("nms_score_threshold", -1e30...1e30, default: nil))
      overlap = Float(try number("nms_iou_threshold", 0...1, default: nil))
      scales = []
      for name in ["y_scale", "x_scale", "h_scale", "w_scale"] {
        scales.append(Float(try number(name, 1e-30...1e30, default: nil)))
      }
    }
  }

  /// Operands: offsets [1, anchors, 4], scores [1, anchors, classes], anchors. Results: boxes, classes, scores, count.
  private static func detect(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    guard let bytes = layer.node.customOptions else { throw .invalid("options were expected; there are none") }
    let detector = try TFLiteLayer.rethrowing { () throws(LoadError) in try Detector(bytes) }
    guard detector.isRegular || detector.classesOfBox == 1 else {
      throw .unsupported("several classes of one box are not supported without use_regular_nms")
    }
    guard try layers.rank(layer.input(1)) == 3, try layers.extent(layer.input(1), 0) == 1 else {
      throw .unsupported("one picture at a time was expected")
    }
    let boxes = try boxes(layer, detector)
    let all = try layers.squeeze(layer.input(1), [0])
    let background = try layers.extent(all, 1) - detector.classes
    guard background >= 0 else { throw .invalid("scores of \(detector.classes) classes were expected") }
    let scores = try layers.slice(all, from: [background], to: [Int.max], axes: [1])
    let found =
      try detector.isRegular
      ? byClass(layer, detector, boxes, scores) : bestClass(layer, detector, boxes, scores)
    return try collected(layer, detector.detections, found)
  }

  private static func boxes(_ layer: TFLiteLayer, _ detector: Detector) throws(OperatorError) -> ValueID {
    let layers = layer.layers
    func parts(_ value: ValueID) throws(OperatorError) -> (ValueID, ValueID) {
      let halves = try layers.emit("Split", [value, layers.integers([2, 2])], [("axis", .int(1))], outputs: 2)
      return (halves[0], halves[1])
    }
    let offsets = try layers.reshape(layer.input(0), [-1, 4])
    let scaled = try layers.emit("Div", [offsets, layers.constant(Tensor(detector.scales))])
    let (shift, growth) = try parts(scaled)
    let (center, size) = try parts(layer.input(2))
    let moved = try layers.emit("Add", [layers.emit("Mul", [shift, size]), center])
    let grown = try layers.emit("Mul", [layers.emit("Exp", [growth]), size])
    let half = try layers.emit("Mul", [grown, layers.scalar(0.5)])
    return try layers.concatenate([layers.emit("Sub", [moved, half]), layers.emit("Add", [moved, half])], axis: 1)
  }

  /// Boxes, classes and scores of those that are kept.
  private typealias Found = (boxes: ValueID, classes: ValueID, scores: ValueID)

  /// Scores of the bound itself count here, other than in ONNX.
  private static func kept(
    _ layer: TFLiteLayer, _ detector: Detector, _ boxes: ValueID, _ scores: ValueID, most: Int
  ) throws(OperatorError) -> ValueID {
    let layers = layer.layers
    return try kept(
      layer, boxes, scores, most: layers.constant(Tensor(scalar: Int64(most))),
      overlap: layers.constant(Tensor([detector.overlap])),
      least: layers.constant(Tensor([detector.leastScore.nextDown])))
  }

  /// Each box with its best class.
  private static func bestClass(
    _ layer: TFLiteLayer, _ detector: Detector, _ boxes: ValueID, _ scores: ValueID
  ) throws(OperatorError) -> Found {
    let layers = layer.layers
    let best = try layers.reduce("ReduceMax", scores, axes: [1], keepsAxes: false)
    let classes = try layers.emit("ArgMax", [scores], [("axis", .int(1)), ("keepdims", .int(0))])
    let rows = try kept(layer, detector, boxes, layers.unsqueeze(best, [0]), most: detector.detections)
    let places = try layers.reshape(layers.slice(rows, from: [2], to: [3], axes: [1]), [-1])
    let chosen = try layers.cast(layers.emit("Gather", [classes, places]), to: .float32)
    return (try layers.emit("Gather", [boxes, places]), chosen, try layers.emit("Gather", [best, places]))
  }

  /// Each class by itself.
  private static func byClass(
    _ layer: TFLiteLayer, _ detector: Detector, _ boxes: ValueID, _ scores: ValueID
  ) throws(OperatorError) -> Found {
    let layers = layer.layers
    let byClass = try layers.transpose(scores, [1, 0])
    let rows = try kept(layer, detector, boxes, byClass, most: detector.detectionsOfClass)
    let pairs = try layers.slice(rows, from: [1], to: [3], axes: [1])
    let places = try layers.reshape(layers.slice(rows, from: [2], to: [3], axes: [1]), [-1])
    let classes = try layers.reshape(layers.slice(rows, from: [1], to: [2], axes: [1]), [-1])
    return (
      try layers.emit("Gather", [boxes, places]), try layers.cast(classes, to: .float32),
      try layers.emit("GatherND", [byClass, pairs])
    )
  }

  /// The best of them, filled up with zeros.
  private static func collected(
    _ layer: TFLiteLayer, _ count: Int, _ found: Found
  ) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    // Places without a box come behind all others.
    func padded(_ value: ValueID, _ filling: Float) throws(OperatorError) -> ValueID {
      let rank = try layers.rank(value)
      let shape = rank == 2 ? [count, 4] : [count]
      let rows = try layers.emit("Expand", [layers.scalar(filling), layers.integers(shape)])
      return try layers.concatenate([value, rows], axis: 0)
    }
    let best = try layers.emit(
      "TopK", [padded(found.scores, noScore), layers.integers([count])], [("axis", .int(0))], outputs: 2)
    let isBox = try layers.emit("Greater", [best[0], layers.scalar(noScore / 2)])
    let scores = try layers.emit("Where", [isBox, best[0], layers.scalar(0)])
    let boxes = try layers.emit("Gather", [padded(found.boxes, 0), best[1]])
    let classes = try layers.emit("Gather", [padded(found.classes, 0), best[1]])
    let number = try layers.reduce("ReduceSum", layers.cast(isBox, to: .float32), axes: [0], keepsAxes: true)
    return [
      try layers.unsqueeze(boxes, [0]), try layers.unsqueeze(classes, [0]), try layers.unsqueeze(scores, [0]), number,
    ]
  }
}
