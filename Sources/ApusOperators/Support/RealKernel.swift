// Operators whose operands may be of several float types: computed in float64 if one of them is, else in float32.

import ApusGraph
import ApusTensor

/// Prepares `double` if a float operand is of float64, else `float`; operands of other float types are staged. `packed`
/// names the constant inputs that the kernel does not read while running, `packing` where it packs.
func prepareReal(
  _ context: PrepareContext, packed: [Int] = [], packing: PackedWeights? = nil,
  float: (PrepareContext) throws(OperatorError) -> PreparedKernel,
  double: (PrepareContext) throws(OperatorError) -> PreparedKernel
) throws(OperatorError) -> PreparedKernel {
  let types = (context.inputs + context.outputs).compactMap { $0?.tensor?.dataType }.filter(\.isFloat)
  let isDouble = types.contains(.float64)
  let wide: DataType = isDouble ? .float64 : .float32
  let narrow = Set(types).subtracting([wide])
  if narrow.isEmpty { return isDouble ? try double(context) : try float(context) }
  let conversions = Dictionary(uniqueKeysWithValues: narrow.map { ($0, wide) })
  return try StagedKernel.prepare(context, conversions, packed: packed, packing: packing) {
    (context) throws(OperatorError) in
    isDouble ? try double(context) : try float(context)
  }
}
