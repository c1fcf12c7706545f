// docs/operators.md is what `apus operators --markdown` prints, and every operator has a kernel or is read as another.

import Apus
import Foundation
import Testing

@Suite struct OperatorTableTests {
  @Test func pageIsCurrent() throws {
    let page = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "docs/operators.md")
    let text = try String(contentsOf: page, encoding: .utf8)
    #expect(text == OperatorTable().markdown, "run: tools/apus operators --markdown > docs/operators.md")
  }

  @Test func everyOperatorHasAKernel() {
    for row in OperatorTable().rows {
      #expect(!row.kernel.isEmpty, "\(row.domain).\(row.name)")
    }
  }

  @Test func filters() {
    #expect(OperatorTable(domain: "ai.onnx", names: ["reshape"]).rows.map(\.name) == ["Reshape"])
    #expect(OperatorTable(names: ["nothing like that"]).rows.isEmpty)
  }
}
