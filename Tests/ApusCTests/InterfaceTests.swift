// The C interface, called by a program in C; and that the program links with nothing but the header.

import Apus
import ApusC
import ApusCProgram
import ApusFormats
import Foundation
import Testing

@Suite struct InterfaceTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "TestModels")

  private func floats(_ file: String) throws -> [Float] {
    let path = Self.folder.appending(path: "data/digits/test_data_set_0/\(file)").path(percentEncoded: false)
    let value = try ValueFile.decode(FileBytes.open(path: path), as: nil)
    return try #require(value.tensor?.elements(as: Float.self))
  }

  @Test func programInC() throws {
    let model = Self.folder.appending(path: "digits.onnx").path(percentEncoded: false)
    let pixels = try floats("input_0.pb")
    let expected = try floats("output_0.pb")
    #expect(apus_c_program(model, pixels, pixels.count / 64, expected) == 0)
  }
}
