// The kernel functions of support vector machines. https://onnx.ai/onnx/operators/onnx_aionnxml_SVMClassifier.html

import ApusGraph
import ApusTensor
import CApusKernels

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// A kernel function of two rows of features.
struct SupportKernel: Sendable {
  enum Kind: String, Sendable, CaseIterable {
    case linear = "LINEAR"
    case polynomial = "POLY"
    case radial = "RBF"
    case sigmoid = "SIGMOID"
  }

  var kind: Kind
  let gamma: Double
  let offset: Double
  let degree: Double

  init(_ context: some OperatorContext) throws(OperatorError) {
    let name = try context.string("kernel_type", oneOf: Kind.allCases.map(\.rawValue))
    kind = Kind(rawValue: name) ?? .linear
    let parameters = context.optionalFloats("kernel_params") ?? []
    guard parameters.isEmpty || parameters.count == 3 else {
      throw .invalid("kernel_params has \(parameters.count) elements; expected gamma, coef0 and degree")
    }
    gamma = Double(parameters.first ?? 0)
    offset = parameters.isEmpty ? 0 : Double(parameters[1])
    degree = parameters.isEmpty ? 0 : Double(parameters[2]).rounded(.towardZero)
  }

  /// The function's value for a row and each of `count` vectors of `columns` features.
  @inline(__always)
  func apply<Scalar: BinaryFloatingPoint & SIMDScalar>(
    _ row: UnsafePointer<Scalar>, _ vectors: UnsafePointer<Scalar>, count: Int, columns: Int,
    _ result: UnsafeMutablePointer<Double>
  ) {
    if kind == .radial {
      for index in 0..<count {
        result[index] = -gamma * Double(squaredDistance(row, vectors + index &* columns, columns))
      }
      apus_kernels().pointee.exp_f64(count, result, result)
      return
    }
    for index in 0..<count { result[index] = Double(dotProduct(row, vectors + index &* columns, columns)) }
    switch kind {
    case .polynomial: for index in 0..<count { result[index] = pow(gamma * result[index] + offset, degree) }
    case .sigmoid:
      for index in 0..<count { result[index] = gamma * result[index] + offset }
      apus_kernels().pointee.tanh_f64(count, result, result)
    default: break
    }
  }
}

/// The vectors of a machine; without any, the rows of coefficients of a linear one.
struct SupportVectors<Scalar: BinaryFloatingPoint & SIMDScalar & Sendable>: Sendable {
  let load: LaneLoad
  let kernel: SupportKernel
  let count: Int
  let elements: [Scalar]

  init(_ type: DataType, lane: Lane, kernel: SupportKernel, count: Int, elements: [Float]) throws(OperatorError) {
    guard let load = lane.load(type) else { throw .unsupported("features of \(type)") }
    guard count > 0, elements.count % count == 0 else {
      throw .invalid("\(elements.count) numbers do not fill \(count) vectors")
    }
    self.load = load
    self.kernel = kernel
    self.count = count
    self.elements = elements.map { Scalar($0) }
  }

  func check(columns: Int) throws(OperatorError) {
    guard columns * count == elements.count else {
      throw .mismatch("the vectors have \(elements.count / count) features; the input has \(columns)")
    }
  }

  func scratchBytes(columns: Int) -> Int {
    (columns * MemoryLayout<Scalar>.stride + 63) / 64 * 64 + (count * 8 + 63) / 64 * 64
  }
  func cost(columns: Int) -> Cost { .light * 2 * count * (columns + 8) }

  /// The kernel's value for every vector and the row at `index`, in scratch memory.
  func values(
    _ rows: UnsafeRawPointer, index: Int, columns: Int, scratch: UnsafeMutableRawPointer
  ) -> UnsafeMutablePointer<Double> {
    let row = scratch.assumingMemoryBound(to: Scalar.self)
    let result = (scratch + (columns * MemoryLayout<Scalar>.stride + 63) / 64 * 64).assumingMemoryBound(to: Double.self)
    load(rows, index &* columns, scratch, columns)
    elements.withUnsafeBufferPointer { elements in
      if let vectors = elements.baseAddress { kernel.apply(row, vectors, count: count, columns: columns, result) }
    }
    return result
  }
}
