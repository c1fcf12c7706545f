// The list of the Tensor family: one line an operator or import rule.

import ApusGraph

let tensorOperators: [any OperatorDefinition] = [
  Compress(),
  Concat(),
  ConstantOfShape(),
  DepthToSpace(),
  EyeLike(),
  Expand(),
  Flatten(),
  Identity(),
  NonZero(),
  OneHot(),
  Pad(),
  RangeOperator(),
  Reshape(),
  ReverseSequence(),
  ShapeOperator(),
  Size(),
  Slice(),
  SpaceToDepth(),
  Split(),
  Squeeze(),
  TensorScatter(),
  Tile(),
  TopK(),
  Transpose(),
  Trilu(),
  Unique(),
  Unsqueeze(),
]

let tensorImportRules: [any ImportRule] = [
  Constant()
]
