// Models in other formats.

import Apus
import CApus

/// What a conversion said of itself.
final class ConversionHandle: Handle, Sendable {
  let report: CText

  init(_ report: String) { self.report = CText(report) }
}

@c @implementation
public func apus_convert(
  _ path: UnsafePointer<CChar>?, _ output: UnsafePointer<CChar>?, _ options: UnsafePointer<CChar>?,
  _ conversion: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(conversion) {
    let options = try options.map { try text($0, "options") } ?? "{}"
    return ConversionHandle(
      try ModelConversion.convert(path: text(path, "path"), to: text(output, "output"), json: options))
  }
}

@c @implementation
public func apus_conversion_report(_ conversion: OpaquePointer?) -> UnsafePointer<CChar>? {
  ConversionHandle.at(conversion)?.report.pointer
}

@c @implementation
public func apus_conversion_release(_ conversion: OpaquePointer?) { ConversionHandle.release(conversion) }
