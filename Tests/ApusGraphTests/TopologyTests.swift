// Processor counts from sample texts of the kernel.

import ApusGraph
import Testing

@Suite struct TopologyTests {
  @Test func hasAtLeastOneProcessor() { #expect(Topology.availableProcessorCount() >= 1) }

  @Test func affinityMasks() {
    #expect(Topology.allowedProcessors(status: "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n") == 8)
    #expect(Topology.allowedProcessors(status: "Cpus_allowed:\t5\n") == 2)
    #expect(Topology.allowedProcessors(status: "Cpus_allowed:\tffffffff,00000000,0000000f\n") == 36)
    #expect(Topology.allowedProcessors(status: "Name:\tx\n") == nil)
    #expect(Topology.allowedProcessors(status: "Cpus_allowed:\t0\n") == nil)
  }

  @Test func quotasRoundUp() {
    #expect(Topology.quota(cpuMax: "max 100000\n") == nil)
    #expect(Topology.quota(cpuMax: "100000 100000\n") == 1)
    #expect(Topology.quota(cpuMax: "150000 100000\n") == 2)
    #expect(Topology.quota(cpuMax: "1000 100000") == 1)
    #expect(Topology.quota(cpuMax: "") == nil)
    #expect(Topology.quota(cpuMax: "1 0") == nil)
    #expect(Topology.quota(microseconds: "-1\n", period: "100000\n") == nil)
    #expect(Topology.quota(microseconds: "400000\n", period: "100000\n") == 4)
    #expect(Topology.quota(microseconds: "9223372036854775807", period: "1") == Int.max)
    #expect(Topology.quota(microseconds: nil, period: "100000") == nil)
  }

  @Test func groupPaths() {
    let hybrid = "9:name=systemd:/\n4:memory:/a\n3:cpu,cpuacct:/docker/abc\n2:cpuset:/c\n0::/user.slice/a:b\n"
    #expect(Topology.groupPath(membership: hybrid, unified: false) == "/docker/abc")
    #expect(Topology.groupPath(membership: hybrid, unified: true) == "/user.slice/a:b")
    #expect(Topology.groupPath(membership: "2:cpuset:/c\n", unified: false) == nil)
    #expect(Topology.groupPath(membership: "garbage", unified: true) == nil)
  }

  private func quota(_ membership: String, _ mounts: String, _ files: [String: String]) -> Int? {
    Topology.processorQuota(membership: membership, mounts: mounts) { files[$0] }
  }

  @Test func version2WalksUp() {
    let mounts =
      "25 30 0:23 / /sys rw - sysfs sysfs rw\n31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
    let group = "0::/kube/pod7/box\n"
    let pod = "/sys/fs/cgroup/kube/pod7"
    #expect(quota(group, mounts, [:]) == nil)
    #expect(quota(group, mounts, [pod + "/box/cpu.max": "max 100000\n", pod + "/cpu.max": "250000 100000\n"]) == 3)
    #expect(quota(group, mounts, [pod + "/box/cpu.max": "100000 100000\n", pod + "/cpu.max": "250000 100000\n"]) == 1)
    #expect(quota(group, mounts, ["/sys/fs/cgroup/cpu.max": "200000 100000"]) == 2)
    #expect(quota("0::/../..\n", mounts, ["/sys/fs/cgroup/cpu.max": "200000 100000"]) == 2)
  }

  @Test func version1UnderAContainersRoot() {
    let mounts = """
      40 39 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
      41 39 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
      """
    let group = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc/inner\n"
    let base = "/sys/fs/cgroup/cpu,cpuacct"
    #expect(
      quota(group, mounts, [base + "/cpu.cfs_quota_us": "300000\n", base + "/cpu.cfs_period_us": "100000\n"]) == 3)
    #expect(
      quota(
        group, mounts,
        [
          base + "/cpu.cfs_quota_us": "300000\n", base + "/cpu.cfs_period_us": "100000\n",
          base + "/inner/cpu.cfs_quota_us": "50000\n", base + "/inner/cpu.cfs_period_us": "100000\n",
        ]) == 1)
  }

  @Test func escapedMountPoints() {
    let mounts = "31 25 0:27 / /odd\\040place rw - cgroup2 cgroup2 rw\nshort line\n"
    #expect(quota("0::/\n", mounts, ["/odd place/cpu.max": "200000 100000\n"]) == 2)
  }
}
