// Arrays against the inputs that they are for: how many samples they hold, and whether each fits.

import Apus
import ApusFormats
import ApusGraph

/// How an array gives the values of an input.
enum ArrayRole: Equatable {
  /// One value, the array itself.
  case whole
  /// Along the first axis `count` values of `rows` entries each; `keepsAxis`: that axis is the input's own.
  case entries(count: Int, rows: Int, keepsAxis: Bool)

  /// An axis more than the input, or its own first axis where that is symbolic, 1, or a part of the array's; nil if the
  /// array does not fit.
  init?(_ shape: Shape, _ input: ValueDescription) {
    guard let dims = input.dimensions.map({ $0.map { Int($0) } }) else {
      self = .whole
      return
    }
    func fits(_ extents: ArraySlice<Int>, _ wanted: ArraySlice<Int?>) -> Bool {
      extents.count == wanted.count && zip(extents, wanted).allSatisfy { $1 == nil || $0 == $1 }
    }
    if shape.rank == dims.count + 1, fits(shape.dims[1...], dims[...]) {
      self = .entries(count: shape[0], rows: 1, keepsAxis: false)
    } else if !dims.isEmpty, shape.rank == dims.count, fits(shape.dims[1...], dims[1...]) {
      let rows = dims[0] ?? 1
      if rows == 1 || rows > 0 && shape[0] > rows && shape[0] % rows == 0 {
        self = .entries(count: shape[0] / rows, rows: rows, keepsAxis: true)
      } else if rows == shape[0] {
        self = .whole
      } else {
        return nil
      }
    } else if dims.isEmpty, shape.rank == 0 {
      self = .whole
    } else {
      return nil
    }
  }

  /// The value with the number `index`.
  func value(_ series: ArraySeries, _ index: Int) throws -> Tensor {
    switch self {
    case .whole: return try series.all()
    case .entries(_, let rows, let keepsAxis):
      let slice = try series.slice(index * rows..<(index + 1) * rows)
      return keepsAxis ? slice : slice.reshaped(to: Shape(Array(slice.shape.dims.dropFirst())))
    }
  }
}

extension ValueDescription {
  /// The value as this input takes it, if it is of its type and shape.
  func fitted(_ value: Value, sample: String) throws -> Value {
    guard case .tensor(let tensor) = value else { return value }
    let converted = ValueInput.converted(tensor, for: self)
    let isFitting =
      (dataType == nil || converted.dataType == dataType)
      && (dimensions.map { dims in
        dims.count == converted.rank && zip(dims, converted.shape).allSatisfy { Int($0) == nil || Int($0) == $1 }
      } ?? true)
    if isFitting { return .tensor(converted) }
    throw unfit("\(tensor.dataType)\(tensor.shape)", sample: sample)
  }

  /// What is wrong with a value of another type or shape.
  func unfit(_ found: String, sample: String) -> InputError {
    InputError("sample '\(sample.printable())': input '\(name.printable())': expected \(type), found \(found)")
  }
}

extension Tensor {
  /// Tensors of one type behind each other along their first axis; nil if their types or other extents differ.
  static func joined(_ parts: [Tensor]) -> Tensor? {
    guard let first = parts.first, first.rank > 0 else { return nil }
    guard
      parts.allSatisfy({ $0.dataType == first.dataType && $0.shape.dropFirst().elementsEqual(first.shape.dropFirst()) })
    else { return nil }
    if parts.count == 1 { return first }
    var shape = first.shape
    shape[0] = parts.reduce(0) { $0 + $1.shape[0] }
    if first.dataType == .string { return Tensor(strings: parts.flatMap { $0.strings ?? [] }, shape: shape) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(parts.reduce(0) { $0 + $1.byteCount })
    for part in parts { part.withUnsafeBytes { bytes += $0 } }
    return Tensor(bytes).reshapedBytes(as: first.dataType, shape: shape)
  }

  /// One of `count` equal parts along the first axis, without it; of a single part only an axis of 1 is left out, in
  /// front of others. nil if the first axis is another.
  func entry(_ index: Int, of count: Int) -> Tensor? {
    if count == 1, rank < 2 || shape[0] != 1 { return self }
    guard shape.first == count else { return nil }
    let rest = Shape(Array(shape.dims.dropFirst()))
    let width = rest.elementCount
    if let strings { return Tensor(strings: Array(strings[index * width..<(index + 1) * width]), shape: rest) }
    guard let offset = dataType.byteCount(elements: index * width), !dataType.isPacked else { return nil }
    return Tensor(dataType: dataType, shape: rest, storage: storage, byteOffset: byteOffset + offset)
  }
}
