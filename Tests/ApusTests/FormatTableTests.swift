// docs/conversion.md has the lists that `apus formats --markdown` prints.

import Apus
import Foundation
import Testing

@Suite struct FormatTableTests {
  @Test func pageIsCurrent() throws {
    let page = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "docs/conversion.md")
    let text = try String(contentsOf: page, encoding: .utf8)
    #expect(
      text.hasSuffix(FormatTable().markdown),
      "replace what follows '## What is mapped' by what `tools/apus formats --markdown` prints")
  }

  @Test func formatsAreToldApart() {
    let names = FormatTable().rows.map(\.name)
    #expect(Set(names).count == names.count && names.contains("onnx"))
  }
}
