// Pow: x to the power of y, of any two numeric types. https://onnx.ai/onnx/operators/onnx__Pow.html
// Versions: 1 (broadcast, axis), 7 (broadcasts both ways), 12 (y of its own type, integers), 13, 15 (bfloat16).

import ApusGraph
import ApusTensor

struct Pow: OperatorDefinition {
  let schema = OperatorSchema(
    "Pow", versions: [1, 7, 12, 13, 15], inputs: [.required("X", "T"), .required("Y", "T1")],
    outputs: [.required("Z", "T")], types: ["T": [.int32, .int64] + .floats, "T1": .numeric], traits: .isSensitive,
    layout: .broadcasting)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version < 7 { try node.upgradeLegacyBroadcast(in: builder) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(0), try context.broadcastShape([0, 1]))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (base, exponent) = (try context.type(0), try context.type(1))
    let loops = base == exponent ? try BinaryFunction.pow.loops(base) : mixedLoops(base, exponent)
    guard let loops else { throw context.unsupportedType(exponent, input: 1) }
    return Elementwise.binary(loops, cost: .heavy, name: "Pow")
  }

  /// Integers to integer powers stay integers; every other pair is computed in float64 and converted like Cast.
  private func mixedLoops(_ base: DataType, _ exponent: DataType) -> BinaryLoops? {
    let widths = (base.byteWidth, exponent.byteWidth, base.byteWidth)
    guard let loadBase = Lane.load(base), let loadExponent = Lane.load(exponent),
      let baseLane = Lane(base), let exponentLane = Lane(exponent),
      let baseToDouble = baseLane.store(.float64), let exponentToDouble = exponentLane.store(.float64),
      let storeDouble = Lane.float64.store(base), let storeInteger = Lane.int64.store(base)
    else { return nil }
    let isInteger = base.isInteger && exponent.isInteger
    // Beyond 2^63 only the parity of an exponent matters: what it is applied to has become 0, 1 or -1.
    let isUnsigned = exponent == .uint64
    return Elementwise.spreadingScalars(
      { a, b, y, count in
        withUnsafeTemporaryAllocation(of: Int64.self, capacity: Lane.blockLength) { first in
          withUnsafeTemporaryAllocation(of: Int64.self, capacity: Lane.blockLength) { second in
            withUnsafeTemporaryAllocation(of: Double.self, capacity: Lane.blockLength) { third in
              guard let x = first.baseAddress, let z = second.baseAddress, let p = third.baseAddress else { return }
              var start = 0
              while start < count {
                let n = min(Lane.blockLength, count &- start)
                if isInteger {
                  loadBase(a, start, x, n)
                  loadExponent(b, start, z, n)
                  for i in 0..<n {
                    x[i] = integerPower(x[i], isUnsigned && z[i] < 0 ? Int64.max - 1 + (z[i] & 1) : z[i])
                  }
                  storeInteger(x, y, start, n)
                } else {
                  loadBase(a, start, z, n)
                  baseToDouble(z, x, 0, n)
                  loadExponent(b, start, z, n)
                  exponentToDouble(z, p, 0, n)
                  Pow.raise(UnsafeMutableRawPointer(x).assumingMemoryBound(to: Double.self), to: p, n)
                  storeDouble(x, y, start, n)
                }
                start &+= n
              }
            }
          }
        }
      }, widths: widths)
  }

  /// x[i] = x[i] ^ p[i].
  private static func raise(_ x: UnsafeMutablePointer<Double>, to p: UnsafePointer<Double>, _ count: Int) {
    for i in 0..<count { x[i] = Double.pow(x[i], p[i]) }
  }
}
