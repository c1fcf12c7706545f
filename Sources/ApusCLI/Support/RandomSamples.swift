// The inputs of `apus convert --verify random`: a batch of one, and a larger one where a model can take it.

import Apus
import ApusTensor

/// What a model that is read runs on, so that another one can be compared with it.
struct RandomSamples {
  private let model: Model
  private let seed: UInt64
  /// Extents that the conversion makes open, and of which a run must show that they are.
  private let opened: Set<String>
  /// The symbolic extents of the inputs, and those of their first axes.
  private let symbols, batches: Set<String>
  private let bounds: [String: Int]

  /// What open extents are, where nobody says: the first with which the model runs.
  private static let extents = [16, 1, 64, 512]
  private static let largerBatch = 3

  init(for model: Model, seed: UInt64, opened: Set<String>) {
    (self.model, self.seed, self.opened) = (model, seed, opened)
    symbols = Set(model.inputs.flatMap { $0.dimensions ?? [] }.filter { Int($0) == nil })
    batches = Set(model.inputs.compactMap { $0.dimensions?.first }.filter { Int($0) == nil && $0 != "?" })
    bounds = RandomInputs.indexBounds(in: model.graph)
  }

  func samples() throws -> [ConversionCheck.Sample] {
    var fault: RunError?
    for extent in symbols.subtracting(batches).isEmpty ? [1] : Self.extents {
      let first = try sample(extent, batch: 1)
      let outputs: [String: Value]
      do throws(RunError) { outputs = try model.run(values: first.inputs) } catch {
        fault = fault ?? error
        continue
      }
      if batches.isEmpty { return [first] }
      let larger = try sample(extent, batch: Self.largerBatch)
      let obstacle = try obstacle(to: larger, outputs, extent)
      if let obstacle, !batches.isDisjoint(with: opened) {
        throw InputError(
          "--verify random: the model holds to its batch: \(obstacle); leave the first extents of its inputs as they "
            + "are, or change what in the model has them as numbers")
      }
      // Whether a symbol of the file may have this size, nobody says.
      return obstacle == nil ? [first, larger] : [first]
    }
    let reason = fault.map { "\($0)" } ?? "it has no inputs"
    throw InputError(
      "--verify random: the model that is read does not run on random inputs; give it inputs by --verify FILE.npz, or "
        + "sizes by --dim or --shape. It says: \(reason)")
  }

  private func sample(_ extent: Int, batch: Int, series: UInt64 = 0) throws -> ConversionCheck.Sample {
    let extents = symbols.map { ($0, batches.contains($0) ? batch : extent) }
    var values: [String: Value] = [:]
    for (position, input) in model.inputs.enumerated() {
      // Of its own seed, so that a larger batch begins with the smaller one.
      var generator = RandomInputs(seed: seed &+ series &+ UInt64(position))
      values[input.name] = try generator.value(
        for: input, extents: Dictionary(uniqueKeysWithValues: extents), bound: bounds[input.name], isDropped: false)
    }
    return ConversionCheck.Sample(inputs: values)
  }

  // MARK: - Larger batches

  /// Why a model that gives `outputs` for one row gives nothing of the kind for more; nil if it does.
  private func obstacle(
    to larger: ConversionCheck.Sample, _ outputs: [String: Value], _ extent: Int
  ) throws -> String? {
    let found: [String: Value]
    do throws(RunError) { found = try model.run(values: larger.inputs) } catch {
      return "a batch of \(Self.largerBatch) is refused (\(error))"
    }
    // What a run of a model of symbols gives, is its own affair.
    if batches.isDisjoint(with: opened) { return nil }
    let others = try model.run(values: sample(extent, batch: 1, series: 1 << 32).inputs)
    for (name, value) in outputs.sorted(by: { $0.key < $1.key }) {
      guard let one = value.tensor, let many = found[name]?.tensor, one.dataType != .string else { continue }
      if let axis = Self.growingAxis(one.shape, many.shape) {
        if Self.begins(many, with: one, along: axis) { continue }
        return "the first row of '\(name)' is another one in a batch of \(Self.largerBatch)"
      }
      // Some outputs are the same for all inputs.
      if let other = others[name]?.tensor, other.shape == one.shape, Self.begins(other, with: one, along: 0) {
        continue
      }
      return "for a batch of \(Self.largerBatch), '\(name)' is \(many.shape), for one row \(one.shape)"
    }
    return nil
  }

  /// The only axis whose extent is that of more rows.
  private static func growingAxis(_ one: Shape, _ many: Shape) -> Int? {
    guard one.rank == many.rank else { return nil }
    let changed = one.indices.filter { one[$0] != many[$0] }
    return changed.count == 1 && many[changed[0]] == largerBatch * one[changed[0]] ? changed[0] : nil
  }

  /// Whether the first elements of `many` along an axis are those of `one`, but for rounding.
  private static func begins(_ many: Tensor, with one: Tensor, along axis: Int) -> Bool {
    let (a, b) = (NumericElements.doubles(of: one), NumericElements.doubles(of: many))
    let magnitude = a.lazy.filter(\.isFinite).map(abs).max() ?? 0
    let block = one.shape.dropFirst(axis).reduce(1, *)
    let stride = many.shape.dropFirst(axis).reduce(1, *)
    return a.indices.allSatisfy { index in
      let (x, y) = (a[index], b[index / block * stride + index % block])
      return x == y || x.isNaN && y.isNaN || abs(x - y) <= rounding * magnitude
    }
  }

  /// What sums in another order differ by at most, of the largest magnitude.
  private static let rounding = 1e-3
}
