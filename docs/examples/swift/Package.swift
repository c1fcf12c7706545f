// swift-tools-version: 6.2
// A package that embeds Apus. Outside this checkout the dependency is
//     .package(url: "https://github.com/OWNER/Apus", from: "0.1.0")
// and with `traits: []` it needs no image libraries.
import PackageDescription

let package = Package(
  name: "Examples",
  dependencies: [.package(name: "Apus", path: "../../..", traits: [])],
  targets: [
    .executableTarget(name: "Classify", dependencies: [.product(name: "Apus", package: "Apus")]),
    .executableTarget(name: "Embed", dependencies: [.product(name: "Apus", package: "Apus")]),
  ]
)
