// LD_PRELOAD: a machine with an Intel GPU, as far as Mesa's Vulkan driver (ANV) has to see one to compile. Its one device node is a
// sparse file in memory; buffers are ranges of it, every command succeeds, and nothing executes. NEURGRAD_COMPILE_INTEL: PCI id in hex.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <i915_drm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <xf86drm.h>

#define NODE "/dev/dri/renderD128"
#define SUBSLICES 32
#define EUS 16
#define MOST 65536
typedef unsigned long long u64;

static int pciId(void) {
  const char *id = getenv("NEURGRAD_COMPILE_INTEL");
  return id ? strtol(id, 0, 16) : 0x56a0;
}
static int discrete(void) { return (pciId() & 0xff00) == 0x5600; }

// ---- the node ----
static char isNode[MOST]; // by file descriptor
static int node(int fd) { return fd >= 0 && fd < MOST && isNode[fd]; }
static int keep(int fd) {
  if (fd >= 0 && fd < MOST) isNode[fd] = 1;
  return fd;
}
static int openNode(void) {
  int fd = memfd_create("i915", MFD_CLOEXEC);
  if (fd >= 0 && ftruncate(fd, 1ll << 42)) return -1;
  return keep(fd);
}
#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))
typedef int (*Open)(const char *, int, ...);
typedef int (*Control)(int, int, ...);
#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    va_list a; va_start(a, flags); int mode = va_arg(a, int); va_end(a); \
    return path && !strcmp(path, NODE) ? openNode() : NEXT(Open, #name)(path, flags, mode); }
OPEN(open) OPEN(open64)
#define CONTROL(name) \
  int name(int fd, int command, ...) { \
    va_list a; va_start(a, command); void *value = va_arg(a, void *); va_end(a); \
    int result = NEXT(Control, #name)(fd, command, value); \
    return node(fd) && (command == F_DUPFD || command == F_DUPFD_CLOEXEC) ? keep(result) : result; }
CONTROL(fcntl) CONTROL(fcntl64)
#define STAT(name, type) \
  int name(const char *path, struct type *s) { \
    if (strcmp(path, NODE)) return NEXT(int (*)(const char *, struct type *), #name)(path, s); \
    memset(s, 0, sizeof *s); \
    s->st_mode = S_IFCHR | 0666; \
    s->st_rdev = makedev(226, 128); \
    return 0; }
STAT(stat, stat) STAT(stat64, stat64)
int close(int fd) {
  if (node(fd)) isNode[fd] = 0;
  return NEXT(int (*)(int), "close")(fd);
}

// ---- libdrm's view of it ----
static drmDevicePtr device(void) {
  static drmPciBusInfo bus = {0, 0, 2, 0};
  static drmPciDeviceInfo info;
  static char *nodes[DRM_NODE_MAX];
  static drmDevice made;
  info = (drmPciDeviceInfo){0x8086, pciId(), 0x8086, 0, 8};
  nodes[DRM_NODE_RENDER] = NODE;
  nodes[DRM_NODE_PRIMARY] = "/dev/dri/card0";
  made = (drmDevice){nodes, 1 << DRM_NODE_RENDER, DRM_BUS_PCI, {&bus}, {&info}};
  return &made;
}
int drmGetDevices2(uint32_t flags, drmDevicePtr *devices, int most) {
  if (devices && most > 0) devices[0] = device();
  return 1;
}
int drmGetDevice2(int fd, uint32_t flags, drmDevicePtr *d) { *d = device(); return 0; }
void drmFreeDevices(drmDevicePtr *devices, int count) {}
void drmFreeDevice(drmDevicePtr *d) { *d = 0; }
drmVersionPtr drmGetVersion(int fd) {
  drmVersionPtr v = calloc(1, sizeof *v);
  v->version_major = 1;
  v->name = strdup("i915");
  v->name_len = 4;
  v->date = strdup("");
  v->desc = strdup("");
  return v;
}

// ---- the kernel's answers ----
static u64 buffers[MOST]; // where each begins in the file
static u64 nextAt = 1 << 20;
static unsigned nextBuffer = 1;
static unsigned createBuffer(u64 size) {
  unsigned handle = __atomic_fetch_add(&nextBuffer, 1, __ATOMIC_RELAXED) % MOST;
  buffers[handle] = __atomic_fetch_add(&nextAt, (size + 0xffff) & ~0xffffull, __ATOMIC_RELAXED);
  return handle;
}

static void getParameter(struct drm_i915_getparam *p) {
  switch (p->param) {
    case I915_PARAM_CHIPSET_ID: *p->value = pciId(); break;
    case I915_PARAM_REVISION: *p->value = 8; break;
    case I915_PARAM_HAS_ALIASING_PPGTT: *p->value = 3; break; // full
    case I915_PARAM_MMAP_VERSION: case I915_PARAM_MMAP_GTT_VERSION: *p->value = 4; break;
    case I915_PARAM_CS_TIMESTAMP_FREQUENCY: *p->value = 19200000; break;
    case I915_PARAM_SUBSLICE_TOTAL: *p->value = SUBSLICES; break;
    case I915_PARAM_EU_TOTAL: *p->value = SUBSLICES * EUS; break;
    default: *p->value = 1;
  }
}
/** Where `length` is 0 the caller asks for it. */
static void answer(struct drm_i915_query_item *item) {
  void *data = (void *)(uintptr_t)item->data_ptr;
  switch (item->query_id) {
    case DRM_I915_QUERY_TOPOLOGY_INFO: case DRM_I915_QUERY_GEOMETRY_SUBSLICES: {
      struct drm_i915_query_topology_info *t = data;
      int size = sizeof *t + 1 + SUBSLICES / 8 + SUBSLICES * EUS / 8;
      if (!item->length) { item->length = size; return; }
      memset(t, 0, sizeof *t);
      t->max_slices = 1; t->max_subslices = SUBSLICES; t->max_eus_per_subslice = EUS;
      t->subslice_offset = 1; t->subslice_stride = SUBSLICES / 8;
      t->eu_offset = 1 + SUBSLICES / 8; t->eu_stride = EUS / 8;
      memset(t->data, 0xff, size - sizeof *t);
      t->data[0] = 1;
      return;
    }
    case DRM_I915_QUERY_ENGINE_INFO: {
      struct drm_i915_query_engine_info *e = data;
      int size = sizeof *e + 3 * sizeof e->engines[0];
      if (!item->length) { item->length = size; return; }
      memset(e, 0, size);
      e->num_engines = 3;
      e->engines[0].engine.engine_class = I915_ENGINE_CLASS_RENDER;
      e->engines[1].engine.engine_class = I915_ENGINE_CLASS_COPY;
      e->engines[2].engine.engine_class = 4; // compute
      return;
    }
    case DRM_I915_QUERY_MEMORY_REGIONS: {
      struct drm_i915_query_memory_regions *m = data;
      int regions = discrete() ? 2 : 1, size = sizeof *m + regions * sizeof m->regions[0];
      if (!item->length) { item->length = size; return; }
      memset(m, 0, size);
      m->num_regions = regions;
      for (int i = 0; i < regions; i++) {
        m->regions[i].region.memory_class = i ? I915_MEMORY_CLASS_DEVICE : I915_MEMORY_CLASS_SYSTEM;
        m->regions[i].probed_size = m->regions[i].unallocated_size = 16ull << 30;
        m->regions[i].probed_cpu_visible_size = m->regions[i].unallocated_cpu_visible_size = 16ull << 30;
      }
      return;
    }
    default: item->length = -EINVAL;
  }
}
static void call(unsigned long request, void *data) {
  static unsigned nextSync;
  if (request == DRM_IOCTL_GET_CAP) ((struct drm_get_cap *)data)->value = 1;
  if (request == DRM_IOCTL_SYNCOBJ_CREATE) ((struct drm_syncobj_create *)data)->handle = __atomic_add_fetch(&nextSync, 1, __ATOMIC_RELAXED);
  switch ((int)_IOC_NR(request) - DRM_COMMAND_BASE) {
    case DRM_I915_GETPARAM: getParameter(data); return;
    case DRM_I915_QUERY: {
      struct drm_i915_query *q = data;
      for (unsigned i = 0; i < q->num_items; i++) answer((struct drm_i915_query_item *)(uintptr_t)q->items_ptr + i);
      return;
    }
    case DRM_I915_GEM_CREATE: { struct drm_i915_gem_create *c = data; c->handle = createBuffer(c->size); return; }
    case DRM_I915_GEM_CREATE_EXT: { struct drm_i915_gem_create_ext *c = data; c->handle = createBuffer(c->size); return; }
    case DRM_I915_GEM_USERPTR: { struct drm_i915_gem_userptr *c = data; c->handle = createBuffer(c->user_size); return; }
    case DRM_I915_GEM_MMAP_GTT: { struct drm_i915_gem_mmap_offset *m = data; m->offset = buffers[m->handle % MOST]; return; }
    case DRM_I915_GEM_CONTEXT_CREATE: ((struct drm_i915_gem_context_create *)data)->ctx_id = 1; return;
    case DRM_I915_GEM_CONTEXT_GETPARAM: {
      struct drm_i915_gem_context_param *p = data;
      p->value = p->param == I915_CONTEXT_PARAM_GTT_SIZE ? 1ull << 48 : 0;
      return;
    }
    case DRM_I915_GEM_VM_CREATE: ((struct drm_i915_gem_vm_control *)data)->vm_id = 1; return;
    case DRM_I915_GEM_GET_APERTURE: {
      struct drm_i915_gem_get_aperture *a = data;
      a->aper_size = a->aper_available_size = 1ull << 48;
      return;
    }
  }
}
int ioctl(int fd, unsigned long request, ...) {
  va_list a;
  va_start(a, request);
  void *data = va_arg(a, void *);
  va_end(a);
  if (!node(fd)) return NEXT(int (*)(int, unsigned long, ...), "ioctl")(fd, request, data);
  call(request, data);
  return 0;
}
