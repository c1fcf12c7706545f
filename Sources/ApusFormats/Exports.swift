// Whoever reads and writes models also names files, limits and errors of containers, in about every file: ApusFormats
// hands them on.

@_exported import ApusContainers
