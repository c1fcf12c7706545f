// Ways to change the values that enter a model: extreme elements, other shapes, other types.

import ApusOperators
import ApusTensor

/// What the mutators of models and values draw from.
enum Extremes {
  static let integers: [Int] = [
    0, 1, -1, 2, -2, 3, 5, 7, 16, 17, 64, 255, 256, 1000, 65535, 1 << 31 - 1, 1 << 31, -(1 << 31), -(1 << 31) - 1,
    1 << 32, 1 << 33, 1 << 40, 1 << 53, 1 << 61, 1 << 62, 1 << 62 + 1, -(1 << 62), Int.max, Int.max - 1, Int.min,
    Int.min + 1,
  ]
  static let floats: [Float] = [
    0, -0.0, 1, -1, 0.5, 2, 0x1p-149, 1e-38, 3.4e38, -3.4e38, 1e10, -1e10, .nan, .infinity, -.infinity, 0x1p31, 0x1p63,
    -0x1p63, 1e19,
  ]
  static let texts: [String] = [
    "", "a", "é€😀", String(repeating: "a", count: 2000), "-0", "nan", "inf", "1e400", "0x10", "９", " a  b ", "a,b,,c",
  ]
}

extension SplitMix64 {
  mutating func pick<Element>(_ elements: [Element]) -> Element? {
    elements.isEmpty ? nil : elements[below(elements.count)]
  }

  /// True once in `count` times.
  mutating func isOnce(in count: Int) -> Bool { below(count) == 0 }

  /// An integer that is likely to be near `value`, likely to be small, and now and then at the edge of a type.
  mutating func integer(near value: Int) -> Int {
    switch below(20) {
    case 0..<7: value &+ [-2, -1, 1, 2, 3][below(5)]
    case 7, 8: 0 &- value
    case 9: value &* [2, 3, 10, 1000][below(4)]
    case 10..<15: below(14) - 4
    default: Extremes.integers[below(Extremes.integers.count)]
    }
  }
}

/// Changes values. Results are small enough to be made without a thought for memory.
enum ValueMutator {
  private static let maximumCount = 1 << 20

  static func mutated(_ value: Value, _ random: inout SplitMix64) -> Value {
    switch value {
    case .tensor(let tensor): return .tensor(mutated(tensor, keepingShape: false, &random))
    case .sequence(var elements, let type):
      switch random.below(4) {
      case 0: elements = []
      case 1: elements += elements.prefix(1)
      case 2 where !elements.isEmpty: elements.remove(at: random.below(elements.count))
      default:
        guard !elements.isEmpty else { break }
        let index = random.below(elements.count)
        elements[index] = mutated(elements[index], &random)
      }
      return .sequence(elements, elementType: type)
    case .optional(let element, let type):
      return .optional(random.isOnce(in: 3) ? nil : element.map { mutated($0, &random) }, elementType: type)
    case .map: return value
    }
  }

  /// A tensor with a few other elements; also of another shape or type if the shape need not be kept.
  static func mutated(_ tensor: Tensor, keepingShape: Bool, _ random: inout SplitMix64) -> Tensor {
    switch keepingShape ? 0 : random.below(20) {
    case 0..<11: withOtherElements(tensor, &random)
    case 11..<18: resized(tensor, to: otherShape(tensor.shape, &random))
    default: withOtherType(tensor, &random)
    }
  }

  /// The elements over and over in a shape that differs in one place.
  static func reshaped(_ tensor: Tensor, _ random: inout SplitMix64) -> Tensor {
    resized(tensor, to: otherShape(tensor.shape, &random))
  }

  private static func withOtherElements(_ tensor: Tensor, _ random: inout SplitMix64) -> Tensor {
    guard tensor.count > 0 else { return tensor }
    let isWide = random.isOnce(in: 5)
    let places = isWide ? Array(0..<tensor.count) : (0...random.below(3)).map { _ in random.below(tensor.count) }
    let real = Extremes.floats[random.below(Extremes.floats.count)]
    let whole = random.integer(near: 1)
    if var strings = tensor.strings {
      let text = Extremes.texts[random.below(Extremes.texts.count)]
      for place in places { strings[place] = text }
      return Tensor(strings: strings, shape: tensor.shape)
    }
    func replacing<Element: TensorElement>(_ element: Element) -> Tensor? {
      guard var elements = tensor.elements(as: Element.self) else { return nil }
      for place in places { elements[place] = element }
      return Tensor(elements, shape: tensor.shape)
    }
    func moving<Element: TensorElement & FixedWidthInteger>(
      _ type: Element.Type, _ random: inout SplitMix64
    ) -> Tensor? {
      guard var elements = tensor.elements(as: type) else { return nil }
      for place in places {
        elements[place] = Element(clamping: isWide ? whole : random.integer(near: Int(clamping: elements[place])))
      }
      return Tensor(elements, shape: tensor.shape)
    }
    return replacing(real) ?? replacing(Double(real)) ?? replacing(Float16(real)) ?? replacing(BFloat16(real))
      ?? moving(Int64.self, &random) ?? moving(Int32.self, &random) ?? moving(UInt8.self, &random)
      ?? moving(Int8.self, &random) ?? moving(UInt64.self, &random) ?? moving(Int16.self, &random)
      ?? moving(UInt16.self, &random) ?? moving(UInt32.self, &random) ?? withOtherBytes(tensor, &random)
  }

  /// For types without integers or floats of Swift: any bits, and 0 or 1 for bool.
  private static func withOtherBytes(_ tensor: Tensor, _ random: inout SplitMix64) -> Tensor {
    let copy = Tensor(zeros: tensor.dataType, shape: tensor.shape)
    guard copy.byteCount > 0 else { return copy }
    tensor.withUnsafeBytes { bytes in copy.storage.base.copyMemory(from: bytes.baseAddress!, byteCount: bytes.count) }
    let byte = tensor.dataType == .bool ? UInt8(random.below(2)) : UInt8(truncatingIfNeeded: random.next())
    copy.storage.base.storeBytes(of: byte, toByteOffset: random.below(copy.byteCount), as: UInt8.self)
    return copy
  }

  private static func otherShape(_ shape: Shape, _ random: inout SplitMix64) -> Shape {
    var dims = shape.dims
    let axis = random.below(dims.count)
    switch random.below(7) {
    case 0 where !dims.isEmpty: dims[axis] = 0
    case 1 where !dims.isEmpty: dims[axis] = max(0, dims[axis] + [-1, 1, 2, -2, 7][random.below(5)])
    case 2 where !dims.isEmpty: dims.remove(at: axis)
    case 3: dims.insert(random.below(3), at: random.below(dims.count + 1))
    case 4 where !dims.isEmpty: dims.swapAt(axis, random.below(dims.count))
    case 5: dims = []
    default: dims = dims.map { _ in 1 }
    }
    return Shape(dims)
  }

  /// The elements over and over in another shape.
  private static func resized(_ tensor: Tensor, to shape: Shape) -> Tensor {
    guard let count = shape.checkedElementCount, count <= maximumCount, !tensor.dataType.isPacked else { return tensor }
    if let strings = tensor.strings {
      return Tensor(strings: (0..<count).map { strings.isEmpty ? "" : strings[$0 % strings.count] }, shape: shape)
    }
    let made = Tensor(zeros: tensor.dataType, shape: shape)
    let width = tensor.dataType.byteWidth
    guard tensor.count > 0 else { return made }
    tensor.withUnsafeBytes { bytes in
      guard let source = bytes.baseAddress else { return }
      for index in 0..<count {
        (made.storage.base + index * width).copyMemory(from: source + index % tensor.count * width, byteCount: width)
      }
    }
    return made
  }

  private static func withOtherType(_ tensor: Tensor, _ random: inout SplitMix64) -> Tensor {
    let types = DataType.allCases
    return Tensor(zeros: types[random.below(types.count)], shape: tensor.shape)
  }
}
