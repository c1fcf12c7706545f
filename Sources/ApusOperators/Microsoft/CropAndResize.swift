// CropAndResize: regions of images, resized to one size.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.CropAndResize
// Versions: 1. Computed in float32, float64 included.

import ApusGraph
import ApusTensor

struct CropAndResize: OperatorDefinition {
  let schema = OperatorSchema(
    "CropAndResize", domain: "com.microsoft", versions: [1],
    inputs: [
      .required("X", "T1"), .required("rois", "T1"), .required("batch_indices", "T2"),
      .required("crop_size", "T2", readWhenPlanning: true),
    ],
    outputs: [.required("Y", "T1")],
    attributes: [.float("extrapolation_value", default: 0), .string("mode", default: "bilinear")],
    types: ["T1": .ieeeFloats, "T2": .int32])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let shape = context.shape(0), shape.count != 4 { throw .mismatch("X is \(shape.text); expected 4 axes") }
    if let rois = context.shape(1), rois.count != 2 || rois[1].isSurelyDifferent(from: 4) {
      throw .mismatch("rois is \(rois.text); expected [number, 4]")
    }
    let count = context.shape(1)?[0] ?? .unknown
    if let indices = context.shape(2), indices.count != 1 || indices[0].isSurelyDifferent(from: count) {
      throw .mismatch("batch_indices is \(indices.text); expected [\(count)]")
    }
    let size = context.values(3)
    if let size, size.count != 2 || size.contains(where: { ($0.known ?? 1) < 1 }) {
      throw .mismatch("crop_size is \(size); expected two positive numbers")
    }
    context.set(
      0, context.type(0),
      [context.shape(1)?[0] ?? .unknown, context.shape(0)?[1] ?? .unknown, size?[0] ?? .unknown, size?[1] ?? .unknown])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let isBilinear = try context.string("mode", oneOf: ["bilinear", "nearest"]) == "bilinear"
    let outside = try context.float("extrapolation_value")
    return try StagedKernel.prepare(context, [.float16: .float32, .float64: .float32], operands: [0, 1]) {
      (_) throws(OperatorError) in
      .planned { plan in
        let (source, target) = (plan.shape(0), plan.outputShape(0))
        let planes = target[0] * target[1]
        let area = target[2] * target[3]
        let partition = Partition(planes, of: .medium * 2 * area)
        return .parallel(parts: area == 0 ? 0 : partition.parts) { run, part in
          for plane in partition.range(part) {
            let (region, channel) = plane.quotientAndRemainder(dividingBy: target[1])
            let image = Int(run.input(2, as: Int32.self)[region])
            guard image >= 0, image < source[0] else {
              run.fail("batch_indices[\(region)] is \(image); expected 0 to \(source[0] - 1)")
              return
            }
            crop(
              run.input(0, as: Float.self) + (image &* source[1] &+ channel) &* source[2] &* source[3],
              run.input(1, as: Float.self) + 4 &* region, run.output(0, as: Float.self) + plane &* area,
              from: (source[2], source[3]), to: (target[2], target[3]), isBilinear, outside)
          }
        }
      }
    }
  }

  /// The region is [y1, x1, y2, x2] in units of the image.
  private func crop(
    _ x: UnsafePointer<Float>, _ region: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>,
    from source: (Int, Int),
    to target: (Int, Int), _ isBilinear: Bool, _ outside: Float
  ) {
    func place(_ index: Int, _ low: Float, _ high: Float, _ source: Int, _ target: Int) -> Float {
      let last = Float(source - 1)
      return target > 1
        ? low * last + Float(index) * ((high - low) * last / Float(target - 1)) : 0.5 * (low + high) * last
    }
    for row in 0..<target.0 {
      let v = place(row, region[0], region[2], source.0, target.0)
      for column in 0..<target.1 {
        let u = place(column, region[1], region[3], source.1, target.1)
        let index = row &* target.1 &+ column
        guard v >= 0, v <= Float(source.0 - 1), u >= 0, u <= Float(source.1 - 1) else {
          y[index] = outside
          continue
        }
        if isBilinear {
          // Beyond 2^24 the last place of the image may be rounded up.
          let (top, left) = (min(Int(v), source.0 - 1), min(Int(u), source.1 - 1))
          let (bottom, right) = (min(top + 1, source.0 - 1), min(left + 1, source.1 - 1))
          let (fv, fu) = (v - Float(top), u - Float(left))
          let above = x[top &* source.1 &+ left] + (x[top &* source.1 &+ right] - x[top &* source.1 &+ left]) * fu
          let below =
            x[bottom &* source.1 &+ left] + (x[bottom &* source.1 &+ right] - x[bottom &* source.1 &+ left]) * fu
          y[index] = above + (below - above) * fv
        } else {
          let (top, left) = (min(Int(v.rounded()), source.0 - 1), min(Int(u.rounded()), source.1 - 1))
          y[index] = x[top &* source.1 &+ left]
        }
      }
    }
  }
}
