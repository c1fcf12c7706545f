// swift-tools-version: 6.2
// Apus: an ONNX engine for Linux. The targets stand in the order of their dependencies; see docs/architecture.md.
import PackageDescription

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
]

/// The picture formats that a library of its own decodes: the trait, and the target that stands for the library.
/// Without the trait the library is not needed, and pictures of that format are refused.
let imageLibraries = [
  "JPEG": "CTurboJPEG", "JPEG2000": "COpenJPEG", "PNG": "CPNG", "TIFF": "CTIFF", "WebP": "CWebP",
]

let package = Package(
  name: "Apus",
  products: [
    .library(name: "Apus", targets: ["Apus"]),
    .executable(name: "apus", targets: ["ApusCLI"]),
    .library(name: "apus-c", type: .dynamic, targets: ["ApusC"]),
  ],
  traits: [
    .default(enabledTraits: ["Images"]),
    .trait(name: "Images", description: "every picture format", enabledTraits: Set(imageLibraries.keys)),
    .trait(name: "JPEG", description: "JPEG pictures, by libturbojpeg"),
    .trait(name: "JPEG2000", description: "JPEG 2000 pictures, by libopenjp2"),
    .trait(name: "PNG", description: "PNG pictures, by libpng"),
    .trait(name: "TIFF", description: "TIFF pictures, by libtiff"),
    .trait(name: "WebP", description: "WebP pictures, by libwebp"),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
  ],
  targets: [
    .target(name: "CApusKernels"),
    .target(name: "CApusFork"),
    .systemLibrary(name: "CProtobufC", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
    .target(name: "COnnxProto", dependencies: ["CProtobufC"], exclude: ["onnx.proto"]),
    .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .systemLibrary(name: "CTurboJPEG", pkgConfig: "libturbojpeg", providers: [.apt(["libturbojpeg0-dev"])]),
    .systemLibrary(name: "CTIFF", pkgConfig: "libtiff-4", providers: [.apt(["libtiff-dev"])]),
    .systemLibrary(name: "CWebP", pkgConfig: "libwebp", providers: [.apt(["libwebp-dev"])]),
    .systemLibrary(name: "COpenJPEG", pkgConfig: "libopenjp2", providers: [.apt(["libopenjp2-7-dev"])]),
    .target(
      name: "ApusImage",
      dependencies: imageLibraries.sorted { $0.key < $1.key }.map { .target(name: $1, condition: .when(traits: [$0])) },
      swiftSettings: strict),
    .target(name: "ApusTensor", dependencies: ["CApusKernels"], swiftSettings: strict),
    .target(name: "ApusGraph", dependencies: ["ApusTensor"], swiftSettings: strict),
    .target(
      name: "ApusOperators", dependencies: ["ApusGraph", "ApusImage", "CApusKernels"], swiftSettings: strict),
    .target(name: "ApusOptimizer", dependencies: ["ApusGraph", "ApusOperators"], swiftSettings: strict),
    .target(name: "ApusRuntime", dependencies: ["ApusGraph", "CApusFork"], swiftSettings: strict),
    .target(name: "ApusFormats", dependencies: ["ApusGraph", "COnnxProto"], swiftSettings: strict),
    .target(
      name: "Apus",
      dependencies: ["ApusFormats", "ApusOperators", "ApusOptimizer", "ApusRuntime"],
      swiftSettings: strict),
    .systemLibrary(name: "CApus", path: "Sources/ApusC/include"),
    .target(name: "ApusC", dependencies: ["Apus", "CApus", "CApusFork"], exclude: ["include"], swiftSettings: strict),
    .target(name: "ApusConformance", dependencies: ["Apus", "CApusKernels"], swiftSettings: strict),
    .executableTarget(
      name: "ApusCLI",
      dependencies: [
        "Apus", "ApusConformance", "ApusImage", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "ApusFuzz", dependencies: ["Apus", "ApusConformance"], path: "tools/fuzz", swiftSettings: strict),
    .target(
      name: "ApusTestSupport", dependencies: ["Apus"], path: "Tests/ApusTestSupport", swiftSettings: strict),
    .testTarget(name: "CApusKernelsTests", dependencies: ["CApusKernels", "COpenBLAS"], swiftSettings: strict),
    .testTarget(
      name: "ApusImageTests", dependencies: ["ApusImage"], exclude: ["Samples", "make_samples.py"], swiftSettings: strict),
    .testTarget(name: "ApusTensorTests", dependencies: ["ApusTensor"], swiftSettings: strict),
    .testTarget(name: "ApusGraphTests", dependencies: ["ApusTestSupport"], swiftSettings: strict),
    .testTarget(
      name: "ApusOperatorsTests", dependencies: ["ApusTestSupport", "ApusConformance"], swiftSettings: strict),
    .testTarget(name: "ApusOptimizerTests", dependencies: ["ApusTestSupport"], swiftSettings: strict),
    .testTarget(name: "ApusRuntimeTests", dependencies: ["ApusTestSupport"], swiftSettings: strict),
    .testTarget(name: "ApusFormatsTests", dependencies: ["ApusTestSupport"], exclude: ["Samples"], swiftSettings: strict),
    .target(
      name: "ApusCProgram", path: "Tests/ApusCProgram",
      cSettings: [.headerSearchPath("../../Sources/ApusC/include")]),
    .testTarget(name: "ApusCTests", dependencies: ["ApusC", "ApusCProgram"], swiftSettings: strict),
    .testTarget(name: "ApusTests", dependencies: ["ApusTestSupport"], swiftSettings: strict),
  ]
)
