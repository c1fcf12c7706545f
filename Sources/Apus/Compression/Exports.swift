// What users see of the target that compresses.

@_exported public import enum ApusCompression.QuantizedType
@_exported public import enum ApusCompression.RangeMethod
@_exported public import protocol ApusCompression.CalibrationData
@_exported public import struct ApusCompression.CalibrationCache
@_exported public import struct ApusCompression.CompressionError
@_exported public import struct ApusCompression.NodeSelection
@_exported public import struct ApusCompression.NodeSensitivity
@_exported public import struct ApusCompression.QuantizationOptions
@_exported public import struct ApusCompression.QuantizationReport
@_exported public import struct ApusCompression.QuantizedNode
@_exported public import struct ApusCompression.RoundingOutcome
@_exported public import struct ApusCompression.SampleList
@_exported public import struct ApusCompression.SignalNoise
@_exported public import struct ApusCompression.TensorOverride
@_exported public import struct ApusCompression.TensorStatistics
@_exported public import struct ApusCompression.TradeOff
