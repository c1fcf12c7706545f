// The ranges of a quantization for TensorRT.

import ApusCompression
import ApusFormats

/// The ranges of tensors as TensorRT reads them for explicit calibration: a name and the bits of a scale a line.
package enum TensorRTCache {
  package static func write(_ report: QuantizationReport, to path: String) throws {
    var text = "TRT-100000-EntropyCalibration2\n"
    for tensor in report.tensors {
      // The scale of integers from -127 to 127, its bits as eight hexadecimal digits: that of the file, where it is
      // symmetric.
      let least = tensor.type.least + (tensor.type.isSigned ? 1 : 0)
      let low = Float(least - tensor.zeroPoint) * tensor.scale
      let high = Float(tensor.type.greatest - tensor.zeroPoint) * tensor.scale
      let digits = String((max(abs(low), abs(high)) / 127).bitPattern, radix: 16)
      text += "\(tensor.name): " + String(repeating: "0", count: 8 - digits.count) + digits + "\n"
    }
    try OutputFile.write(Array(text.utf8), to: path)
  }
}
