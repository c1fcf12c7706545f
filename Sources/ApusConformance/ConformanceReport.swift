// The results of many cases, as tables for people and files for programs.

import Foundation

/// Results with the failures that were expected of them.
public struct ConformanceReport: Sendable {
  public let results: [ConformanceResult]
  /// Reasons by `kind/name` of cases that are known to fail. One that passes all the same counts as a failure.
  public let expected: [String: String]

  public init(results: [ConformanceResult], expected: [String: String] = [:]) {
    self.results = results
    self.expected = expected
  }

  /// How a case counts, once it is known what was expected of it.
  public enum Verdict: String, Sendable { case passed, failed, skipped }

  public func verdict(of result: ConformanceResult) -> Verdict {
    if expected[result.kind + "/" + result.name] != nil { return result.outcome == .failed ? .skipped : .failed }
    return result.outcome == .failed ? .failed : .passed
  }

  public func message(of result: ConformanceResult) -> String {
    guard let reason = expected[result.kind + "/" + result.name] else { return result.message }
    return result.outcome == .failed
      ? "\(reason): \(result.message)" : "was expected to fail (\(reason)) and passed; remove it from the list"
  }

  public func count(_ verdict: Verdict) -> Int { results.count { self.verdict(of: $0) == verdict } }

  /// Reads a list of expected failures: `kind/name reason` a line, `#` begins a comment.
  public static func expectations(in text: String) -> [String: String] {
    var expected: [String: String] = [:]
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      let parts = line.split(separator: " ", maxSplits: 1).map(String.init)
      if let name = parts.first { expected[name] = parts.count > 1 ? parts[1] : "no reason given" }
    }
    return expected
  }

  // MARK: - For people

  /// Cases and failures by `key`, those with the most failures first.
  private func rows(_ keys: (ConformanceResult) -> [String]) -> [(key: String, passed: Int, total: Int)] {
    var counts: [String: (passed: Int, total: Int)] = [:]
    for result in results {
      for key in keys(result) {
        counts[key, default: (0, 0)].total += 1
        if result.outcome == .passed { counts[key, default: (0, 0)].passed += 1 }
      }
    }
    return counts.map { ($0.key, $0.value.passed, $0.value.total) }
      .sorted { ($1.2 - $1.1, $0.0) < ($0.2 - $0.1, $1.0) }
  }

  /// The table by kind, and by operator where something failed.
  public var text: String {
    var lines = ["kind                 passed   of"]
    func line(_ row: (key: String, passed: Int, total: Int)) -> String {
      let name = row.key.padding(toLength: max(20, row.key.count), withPad: " ", startingAt: 0)
      return name + String(format: "%7d %6d", row.passed, row.total)
    }
    lines += rows { [$0.kind] }.sorted { $0.key < $1.key }.map(line)
    let failing = rows { $0.operators.isEmpty ? ["(not read)"] : $0.operators }.filter { $0.passed < $0.total }
    if !failing.isEmpty {
      lines.append("\noperator             passed   of")
      lines += failing.map(line)
    }
    return lines.joined(separator: "\n")
  }

  // MARK: - For programs

  /// The counts and every case.
  public struct File: Encodable, Sendable {
    struct Case: Encodable {
      var name, kind, outcome, message: String
      var operators: [String]
      var seconds: Double
    }
    var passed, failed, skipped: Int
    var cases: [Case]
  }

  /// What a program wants to know.
  public var file: File {
    File(
      passed: count(.passed), failed: count(.failed), skipped: count(.skipped),
      cases: results.map {
        .init(
          name: $0.name, kind: $0.kind, outcome: verdict(of: $0).rawValue, message: message(of: $0),
          operators: $0.operators, seconds: $0.seconds)
      })
  }

  /// The XML that continuous integration reads. https://github.com/testmoapp/junitxml
  public func junit() -> String {
    var lines = ["<?xml version=\"1.0\" encoding=\"UTF-8\"?>"]
    lines.append(
      "<testsuites tests=\"\(results.count)\" failures=\"\(count(.failed))\" skipped=\"\(count(.skipped))\">")
    for (kind, cases) in Dictionary(grouping: results, by: \.kind).sorted(by: { $0.key < $1.key }) {
      let failures = cases.count { verdict(of: $0) == .failed }
      lines.append("  <testsuite name=\"\(escaped(kind))\" tests=\"\(cases.count)\" failures=\"\(failures)\">")
      for result in cases {
        let head =
          "    <testcase classname=\"\(escaped(kind))\" name=\"\(escaped(result.name))\" time=\"\(result.seconds)\""
        switch verdict(of: result) {
        case .passed: lines.append(head + "/>")
        case .failed: lines.append(head + "><failure message=\"\(escaped(message(of: result)))\"/></testcase>")
        case .skipped: lines.append(head + "><skipped message=\"\(escaped(message(of: result)))\"/></testcase>")
        }
      }
      lines.append("  </testsuite>")
    }
    lines.append("</testsuites>")
    return lines.joined(separator: "\n") + "\n"
  }

  /// One page that stands by itself.
  public func html() -> String {
    let rows = results.sorted { verdict(of: $0) == .failed && verdict(of: $1) != .failed }.map { result in
      let verdict = verdict(of: result)
      return "<tr class=\"\(verdict.rawValue)\"><td>\(escaped(result.kind))</td><td>\(escaped(result.name))</td>"
        + "<td>\(verdict.rawValue)</td><td>\(escaped(result.operators.joined(separator: ", ")))</td>"
        + "<td>\(escaped(message(of: result)))</td></tr>"
    }
    return """
      <!doctype html><html lang="en"><meta charset="utf-8"><title>ONNX conformance</title>
      <style>body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:.2em .6em;
      text-align:left;border-bottom:1px solid #ddd}.failed td{background:#fde8e8}.skipped td{background:#fff6d6}</style>
      <h1>ONNX conformance</h1>
      <p>\(count(.passed)) passed, \(count(.failed)) failed, \(count(.skipped)) skipped</p>
      <pre>\(escaped(text))</pre>
      <table><tr><th>kind<th>case<th>outcome<th>operators<th>message</tr>
      \(rows.joined(separator: "\n"))
      </table></html>

      """
  }

  private func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "\n": result += "&#10;"
      // XML has no other control characters.
      case _ where scalar.value < 32: result += "\u{FFFD}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
