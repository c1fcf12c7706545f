// How right a model is: counters that a program fills run by run, the same that `apus accuracy` uses.

@_exported public import struct ApusCompression.AccuracyMetric
@_exported public import struct ApusCompression.AccuracyReport
@_exported public import struct ApusCompression.BoundingBox
@_exported public import enum ApusCompression.CTCDecoder
@_exported public import struct ApusCompression.ClassFigures
@_exported public import struct ApusCompression.ClassificationAccuracy
@_exported public import struct ApusCompression.ConfusionMatrix
@_exported public import enum ApusCompression.Cosine
@_exported public import struct ApusCompression.Detection
@_exported public import struct ApusCompression.DetectionAccuracy
@_exported public import enum ApusCompression.EditDistance
@_exported public import struct ApusCompression.EmbeddingAccuracy
@_exported public import struct ApusCompression.PairAccuracy
@_exported public import enum ApusCompression.RankStatistics
@_exported public import struct ApusCompression.RegressionAccuracy
@_exported public import struct ApusCompression.SegmentationAccuracy
@_exported public import struct ApusCompression.TranscriptAccuracy
@_exported public import struct ApusCompression.TrueObject
