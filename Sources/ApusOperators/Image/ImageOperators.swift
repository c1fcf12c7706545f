// The list of the Image family: one line an operator or import rule.

import ApusGraph

let imageOperators: [any OperatorDefinition] = [
  ImageDecoder(),
  Resize(),
  GridSample(),
  AffineGrid(),
  RoiAlign(),
  NonMaxSuppression(),
  Col2Im(),
  CenterCropPad(),
]

let imageImportRules: [any ImportRule] = [
  Upsample()
]
