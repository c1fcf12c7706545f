// The list of the Tensor family: one line an operator.

import ApusGraph

let tensorOperators: [any OperatorDefinition] = [
  Compress(),
  Concat(),
  Constant(),
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
