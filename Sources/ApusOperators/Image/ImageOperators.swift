// The list of the Image family: one line an operator.

import ApusGraph

let imageOperators: [any OperatorDefinition] = [
  ImageDecoder(),
  Resize(),
  Upsample(),
  GridSample(),
  AffineGrid(),
  RoiAlign(),
  NonMaxSuppression(),
  Col2Im(),
  CenterCropPad(),
]
