// An explicit Vulkan layer that makes a driver without its GPU a device that only compiles: RADV's null device (RADV_FORCE_FAMILY)
// or ANV above intel.c. Nothing executes; everything else is real:
//  - it answers what the driver cannot (image formats, memory, fences), so that Dawn opens it;
//  - every compute pipeline is compiled with statistics and assembly on, and both are saved;
//  - commands and submits are swallowed and written down.
// Files in $NEURGRAD_COMPILE_DIR: the log, whose lines record.ts explains, and by hash of the shader <hash>.spv and <hash>.isa.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vulkan/vk_icd.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define API static VKAPI_ATTR
typedef unsigned long long u64;

static PFN_vkGetInstanceProcAddr nextInstanceProc;
static PFN_vkGetDeviceProcAddr nextDeviceProc;
static VkInstance instance;
static const char *dir;
static FILE *out;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static FILE *logFile(void) {
  pthread_mutex_lock(&lock);
  if (!out) {
    char path[4096];
    dir = getenv("NEURGRAD_COMPILE_DIR");
    if (!dir) { fputs("NEURGRAD_COMPILE_DIR is not set\n", stderr); exit(1); }
    snprintf(path, sizeof path, "%s/log", dir);
    out = fopen(path, "a");
    if (!out) { perror(path); exit(1); }
    setvbuf(out, 0, _IOFBF, 1 << 16);
  }
  pthread_mutex_unlock(&lock);
  return out;
}

// ---- memory: host pages that are only taken when touched; the types of a discrete card ----
typedef struct { void *at; size_t size; } Memory;

static void memoryTypes(VkPhysicalDeviceMemoryProperties *p) {
  const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
  const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  *p = (VkPhysicalDeviceMemoryProperties){
      .memoryHeapCount = 2,
      .memoryHeaps = {{64ull << 30, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}, {64ull << 30, 0}},
      .memoryTypeCount = 3,
      .memoryTypes = {{local, 0}, {host, 1}, {host | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, 1}}};
}
API void getMemoryProperties(VkPhysicalDevice g, VkPhysicalDeviceMemoryProperties *p) { memoryTypes(p); }
API void getMemoryProperties2(VkPhysicalDevice g, VkPhysicalDeviceMemoryProperties2 *p) { memoryTypes(&p->memoryProperties); }
API VkResult allocateMemory(VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a, VkDeviceMemory *m) {
  Memory *made = malloc(sizeof *made);
  made->size = i->allocationSize;
  made->at = mmap(0, made->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made->at == MAP_FAILED) { free(made); return VK_ERROR_OUT_OF_DEVICE_MEMORY; }
  *m = (VkDeviceMemory)made;
  return VK_SUCCESS;
}
API void freeMemory(VkDevice d, VkDeviceMemory m, const VkAllocationCallbacks *a) {
  Memory *freed = (Memory *)m;
  if (freed) { munmap(freed->at, freed->size); free(freed); }
}
API VkResult mapMemory(VkDevice d, VkDeviceMemory m, VkDeviceSize at, VkDeviceSize n, VkMemoryMapFlags f, void **p) {
  *p = (char *)((Memory *)m)->at + at;
  return VK_SUCCESS;
}
API void bufferRequirements(VkDevice d, VkBuffer b, VkMemoryRequirements *r) {
  ((PFN_vkGetBufferMemoryRequirements)nextDeviceProc(d, "vkGetBufferMemoryRequirements"))(d, b, r);
  r->memoryTypeBits = 7;
}
API void bufferRequirements2(VkDevice d, const VkBufferMemoryRequirementsInfo2 *i, VkMemoryRequirements2 *r) {
  bufferRequirements(d, i->buffer, &r->memoryRequirements);
}

// ---- image formats: the null device has no address library; say yes to all ----
API VkResult imageFormat(VkPhysicalDevice g, VkFormat f, VkImageType t, VkImageTiling l, VkImageUsageFlags u, VkImageCreateFlags c, VkImageFormatProperties *p) {
  *p = (VkImageFormatProperties){{16384, 16384, t == VK_IMAGE_TYPE_3D ? 2048 : 1}, 15, 2048, VK_SAMPLE_COUNT_1_BIT | VK_SAMPLE_COUNT_4_BIT, 1ull << 31};
  return VK_SUCCESS;
}
API VkResult imageFormat2(VkPhysicalDevice g, const VkPhysicalDeviceImageFormatInfo2 *i, VkImageFormatProperties2 *p) {
  return imageFormat(g, i->format, i->type, i->tiling, i->usage, i->flags, &p->imageFormatProperties);
}
API void formatProperties2(VkPhysicalDevice g, VkFormat f, VkFormatProperties2 *p) {
  VkDrmFormatModifierPropertiesListEXT *list = p->pNext;
  if (list && list->sType == VK_STRUCTURE_TYPE_DRM_FORMAT_MODIFIER_PROPERTIES_LIST_EXT) {
    list->drmFormatModifierCount = 0;
    p->pNext = list->pNext;
  }
  ((PFN_vkGetPhysicalDeviceFormatProperties2)nextInstanceProc(instance, "vkGetPhysicalDeviceFormatProperties2"))(g, f, p);
  if (list) p->pNext = list;
}

// ---- shaders and pipelines ----
typedef struct Shader { struct Shader *next; VkShaderModule module; size_t size; u64 hash; char name[512]; uint32_t code[]; } Shader;
static Shader *shaders;

static u64 fnv(u64 h, const void *data, size_t n) {
  for (const unsigned char *p = data; n--; p++) h = (h ^ *p) * 0x100000001b3ull;
  return h;
}
API VkResult createShaderModule(VkDevice d, const VkShaderModuleCreateInfo *i, const VkAllocationCallbacks *a, VkShaderModule *m) {
  VkResult r = ((PFN_vkCreateShaderModule)nextDeviceProc(d, "vkCreateShaderModule"))(d, i, a, m);
  if (r) return r;
  Shader *s = malloc(sizeof *s + i->codeSize);
  memcpy(s->code, i->pCode, s->size = i->codeSize);
  s->module = *m;
  s->name[0] = 0;
  s->hash = fnv(0xcbf29ce484222325ull, s->code, s->size);
  pthread_mutex_lock(&lock);
  s->next = shaders;
  shaders = s;
  pthread_mutex_unlock(&lock);
  return r;
}
API void destroyShaderModule(VkDevice d, VkShaderModule m, const VkAllocationCallbacks *a) {
  pthread_mutex_lock(&lock);
  for (Shader **at = &shaders; *at; at = &(*at)->next)
    if ((*at)->module == m) { Shader *s = *at; *at = s->next; free(s); break; }
  pthread_mutex_unlock(&lock);
  ((PFN_vkDestroyShaderModule)nextDeviceProc(d, "vkDestroyShaderModule"))(d, m, a);
}

// "name: value" for each statistic, then the assembly.
static void saveIsa(VkDevice d, VkPipeline p, FILE *f) {
  PFN_vkGetPipelineExecutablePropertiesKHR properties = (void *)nextDeviceProc(d, "vkGetPipelineExecutablePropertiesKHR");
  PFN_vkGetPipelineExecutableStatisticsKHR statistics = (void *)nextDeviceProc(d, "vkGetPipelineExecutableStatisticsKHR");
  PFN_vkGetPipelineExecutableInternalRepresentationsKHR texts = (void *)nextDeviceProc(d, "vkGetPipelineExecutableInternalRepresentationsKHR");
  VkPipelineExecutablePropertiesKHR property = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
  uint32_t n = 1;
  properties(d, &(VkPipelineInfoKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = p}, &n, &property);
  fprintf(f, "Wave: %u\n", property.subgroupSize);
  VkPipelineExecutableInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = p};
  statistics(d, &info, &n, 0);
  VkPipelineExecutableStatisticKHR *s = calloc(n, sizeof *s);
  for (uint32_t i = 0; i < n; i++) s[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
  statistics(d, &info, &n, s);
  for (uint32_t i = 0; i < n; i++) {
    int isFloat = s[i].format == VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR;
    fprintf(f, "%s: %.15g\n", s[i].name, isFloat ? s[i].value.f64 : (double)s[i].value.u64);
  }
  free(s);
  texts(d, &info, &n, 0);
  VkPipelineExecutableInternalRepresentationKHR *t = calloc(n, sizeof *t);
  for (uint32_t i = 0; i < n; i++) t[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR;
  texts(d, &info, &n, t);
  for (uint32_t i = 0; i < n; i++) t[i].pData = malloc(t[i].dataSize + 1);
  texts(d, &info, &n, t);
  for (uint32_t i = 0; i < n; i++) {
    if (strstr(t[i].name, "ssembly")) fprintf(f, "\n%.*s\n", (int)t[i].dataSize, (char *)t[i].pData);
    free(t[i].pData);
  }
  free(t);
}

API VkResult createComputePipelines(VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *infos, const VkAllocationCallbacks *a, VkPipeline *made) {
  PFN_vkCreateComputePipelines next = (void *)nextDeviceProc(d, "vkCreateComputePipelines");
  FILE *log = logFile();
  for (uint32_t i = 0; i < n; i++) {
    VkComputePipelineCreateInfo info = infos[i];
    info.flags |= VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR | VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR;
    VkResult r = next(d, 0, 1, &info, a, made + i);
    if (r) { fprintf(log, "E vkCreateComputePipelines %d\n", r); return r; }
    pthread_mutex_lock(&lock);
    Shader *s = shaders;
    while (s && s->module != info.stage.module) s = s->next;
    u64 hash = 0;
    char path[4096];
    if (s) {
      const VkPipelineShaderStageRequiredSubgroupSizeCreateInfo *size = info.stage.pNext;
      while (size && size->sType != VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO) size = size->pNext;
      hash = fnv(s->hash, size ? &size->requiredSubgroupSize : 0, size ? 4 : 0);
      snprintf(path, sizeof path, "%s/%016llx.spv", dir, hash);
      FILE *f = fopen(path, "wb");
      if (f) { fwrite(s->code, 1, s->size, f); fclose(f); }
      memcpy(strrchr(path, '.'), ".isa", 5);
      if ((f = fopen(path, "w"))) { saveIsa(d, made[i], f); fclose(f); }
    }
    pthread_mutex_unlock(&lock);
    fprintf(log, "P %llx %016llx %s\n", (u64)made[i], hash, s ? s->name : "");
    fflush(log); // a process may be killed before it submits
  }
  return VK_SUCCESS;
}
// Dawn names the Vulkan module by the label of the WebGPU one, before it makes the pipeline; the pipeline itself stays nameless.
API VkResult setName(VkDevice d, const VkDebugUtilsObjectNameInfoEXT *i) {
  if (i->objectType != VK_OBJECT_TYPE_SHADER_MODULE || !i->pObjectName) return VK_SUCCESS;
  pthread_mutex_lock(&lock);
  Shader *s = shaders;
  while (s && (u64)s->module != i->objectHandle) s = s->next;
  if (s) snprintf(s->name, sizeof s->name, "%s", i->pObjectName);
  pthread_mutex_unlock(&lock);
  return VK_SUCCESS;
}

// ---- bind groups: a set remembers the bytes that each binding names ----
#define BINDINGS 32
typedef struct Set { struct Set *next; uint32_t count; u64 bytes[BINDINGS]; } Set;
typedef struct { Set *sets; } Pool;
static u64 barriers;

API VkResult createPool(VkDevice d, const VkDescriptorPoolCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorPool *p) {
  *p = (VkDescriptorPool)calloc(1, sizeof(Pool));
  return VK_SUCCESS;
}
API VkResult resetPool(VkDevice d, VkDescriptorPool p, VkDescriptorPoolResetFlags f) {
  Pool *pool = (Pool *)p;
  for (Set *s = pool->sets, *next; s; s = next) { next = s->next; free(s); }
  pool->sets = 0;
  return VK_SUCCESS;
}
API void destroyPool(VkDevice d, VkDescriptorPool p, const VkAllocationCallbacks *a) {
  if (p) { resetPool(d, p, 0); free((Pool *)p); }
}
API VkResult allocateSets(VkDevice d, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *made) {
  Pool *pool = (Pool *)i->descriptorPool;
  for (uint32_t n = 0; n < i->descriptorSetCount; n++) {
    Set *s = calloc(1, sizeof *s);
    s->next = pool->sets;
    pool->sets = s;
    made[n] = (VkDescriptorSet)s;
  }
  return VK_SUCCESS;
}
API void updateSets(VkDevice d, uint32_t n, const VkWriteDescriptorSet *w, uint32_t copies, const VkCopyDescriptorSet *c) {
  for (; n--; w++) {
    Set *s = (Set *)w->dstSet;
    if (w->dstBinding >= BINDINGS) continue;
    if (w->dstBinding >= s->count) s->count = w->dstBinding + 1;
    s->bytes[w->dstBinding] = w->pBufferInfo ? w->pBufferInfo->range : 0;
  }
}

// ---- commands: Dawn records them in one thread at submit ----
static __thread struct { VkPipeline pipeline; Set *set[4]; uint32_t pushed; unsigned char push[256]; } state;

API void bindPipeline(VkCommandBuffer c, VkPipelineBindPoint b, VkPipeline p) { state.pipeline = p; state.pushed = 0; }
API void bindSets(VkCommandBuffer c, VkPipelineBindPoint b, VkPipelineLayout l, uint32_t first, uint32_t n, const VkDescriptorSet *sets, uint32_t nd, const uint32_t *dynamic) {
  for (uint32_t i = 0; i < n && first + i < 4; i++) state.set[first + i] = (Set *)sets[i];
}
API void pushConstants(VkCommandBuffer c, VkPipelineLayout l, VkShaderStageFlags f, uint32_t at, uint32_t n, const void *data) {
  if (at + n > sizeof state.push) return;
  memcpy(state.push + at, data, n);
  if (at + n > state.pushed) state.pushed = at + n;
}
API void dispatch(VkCommandBuffer c, uint32_t x, uint32_t y, uint32_t z) {
  char line[2048], *p = line;
  p += sprintf(p, "D %llx %u %u %u ", (u64)state.pipeline, x, y, z);
  if (!state.pushed) *p++ = '-';
  for (uint32_t i = 0; i < state.pushed; i++) {
    *p++ = "0123456789abcdef"[state.push[i] >> 4];
    *p++ = "0123456789abcdef"[state.push[i] & 15];
  }
  for (int g = 0; g < 4; g++)
    for (uint32_t i = 0; state.set[g] && i < state.set[g]->count && p < line + 2000; i++) p += sprintf(p, " %llu", state.set[g]->bytes[i]);
  *p++ = '\n';
  fwrite(line, 1, p - line, logFile());
}
API VkResult begin(VkCommandBuffer c, const VkCommandBufferBeginInfo *i) { memset(&state, 0, sizeof state); return VK_SUCCESS; }
API void copyBuffer(VkCommandBuffer c, VkBuffer from, VkBuffer to, uint32_t n, const VkBufferCopy *r) {
  for (; n--; r++) fprintf(logFile(), "C %llu\n", (u64)r->size);
}
API void barrier(void) { __atomic_add_fetch(&barriers, 1, __ATOMIC_RELAXED); }
API VkResult submit(VkQueue q, uint32_t n, const VkSubmitInfo *s, VkFence f) {
  FILE *log = logFile();
  fprintf(log, "S %llu\n", __atomic_exchange_n(&barriers, 0, __ATOMIC_RELAXED));
  fflush(log);
  return VK_SUCCESS;
}

API VkResult nop(void) { return VK_SUCCESS; }
API VkResult createToken(VkDevice d, const void *i, const void *a, void **made) { *made = malloc(8); return VK_SUCCESS; }
API void destroyToken(VkDevice d, void *token, const void *a) { free(token); }
API VkResult allocateCommandBuffers(VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *made) {
  for (uint32_t n = 0; n < i->commandBufferCount; n++) {
    made[n] = malloc(64);
    set_loader_magic_value(made[n]);
  }
  return VK_SUCCESS;
}
API void freeCommandBuffers(VkDevice d, VkCommandPool p, uint32_t n, const VkCommandBuffer *c) {
  while (n--) free(c[n]);
}

// ---- instance and device ----
API VkResult createInstance(const VkInstanceCreateInfo *i, const VkAllocationCallbacks *a, VkInstance *made) {
  VkLayerInstanceCreateInfo *l = (void *)i->pNext;
  while (l && !(l->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && l->function == VK_LAYER_LINK_INFO)) l = (void *)l->pNext;
  if (!l) return VK_ERROR_INITIALIZATION_FAILED;
  nextInstanceProc = l->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  l->u.pLayerInfo = l->u.pLayerInfo->pNext;
  VkResult r = ((PFN_vkCreateInstance)nextInstanceProc(0, "vkCreateInstance"))(i, a, made);
  instance = *made;
  return r;
}
API VkResult createDevice(VkPhysicalDevice g, const VkDeviceCreateInfo *i, const VkAllocationCallbacks *a, VkDevice *made) {
  VkLayerDeviceCreateInfo *l = (void *)i->pNext;
  while (l && !(l->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO && l->function == VK_LAYER_LINK_INFO)) l = (void *)l->pNext;
  if (!l) return VK_ERROR_INITIALIZATION_FAILED;
  PFN_vkGetInstanceProcAddr next = l->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  nextDeviceProc = l->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  l->u.pLayerInfo = l->u.pLayerInfo->pNext;
  const char *names[256];
  uint32_t n = i->enabledExtensionCount;
  if (n > 255) return VK_ERROR_INITIALIZATION_FAILED;
  memcpy(names, i->ppEnabledExtensionNames, n * sizeof *names);
  names[n++] = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
  VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR feature = {
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR, (void *)i->pNext, VK_TRUE};
  VkDeviceCreateInfo info = *i;
  info.pNext = &feature;
  info.enabledExtensionCount = n;
  info.ppEnabledExtensionNames = names;
  return ((PFN_vkCreateDevice)next(instance, "vkCreateDevice"))(g, &info, a, made);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL compileOnlyInstanceProc(VkInstance i, const char *name);
VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL compileOnlyDeviceProc(VkDevice d, const char *name);

typedef struct { const char *name; void *function; } Entry;
static const Entry instanceEntries[] = {
    {"vkGetInstanceProcAddr", compileOnlyInstanceProc}, {"vkGetDeviceProcAddr", compileOnlyDeviceProc},
    {"vkCreateInstance", createInstance}, {"vkCreateDevice", createDevice},
    {"vkGetPhysicalDeviceImageFormatProperties", imageFormat},
    {"vkGetPhysicalDeviceImageFormatProperties2", imageFormat2}, {"vkGetPhysicalDeviceImageFormatProperties2KHR", imageFormat2},
    {"vkGetPhysicalDeviceFormatProperties2", formatProperties2}, {"vkGetPhysicalDeviceFormatProperties2KHR", formatProperties2},
    {"vkGetPhysicalDeviceMemoryProperties", getMemoryProperties},
    {"vkGetPhysicalDeviceMemoryProperties2", getMemoryProperties2}, {"vkGetPhysicalDeviceMemoryProperties2KHR", getMemoryProperties2},
    {"vkSetDebugUtilsObjectNameEXT", setName}, {0}};
static const Entry deviceEntries[] = {
    {"vkGetDeviceProcAddr", compileOnlyDeviceProc}, {"vkSetDebugUtilsObjectNameEXT", setName},
    {"vkAllocateMemory", allocateMemory}, {"vkFreeMemory", freeMemory}, {"vkMapMemory", mapMemory}, {"vkUnmapMemory", nop},
    {"vkFlushMappedMemoryRanges", nop}, {"vkInvalidateMappedMemoryRanges", nop},
    {"vkBindBufferMemory", nop}, {"vkBindBufferMemory2", nop}, {"vkBindBufferMemory2KHR", nop},
    {"vkGetBufferMemoryRequirements", bufferRequirements},
    {"vkGetBufferMemoryRequirements2", bufferRequirements2}, {"vkGetBufferMemoryRequirements2KHR", bufferRequirements2},
    {"vkCreateShaderModule", createShaderModule}, {"vkDestroyShaderModule", destroyShaderModule},
    {"vkCreateComputePipelines", createComputePipelines},
    {"vkCreateDescriptorPool", createPool}, {"vkResetDescriptorPool", resetPool}, {"vkDestroyDescriptorPool", destroyPool},
    {"vkAllocateDescriptorSets", allocateSets}, {"vkFreeDescriptorSets", nop}, {"vkUpdateDescriptorSets", updateSets},
    {"vkCreateCommandPool", createToken}, {"vkDestroyCommandPool", destroyToken},
    {"vkAllocateCommandBuffers", allocateCommandBuffers}, {"vkFreeCommandBuffers", freeCommandBuffers},
    {"vkBeginCommandBuffer", begin}, {"vkEndCommandBuffer", nop}, {"vkResetCommandBuffer", nop}, {"vkResetCommandPool", nop},
    {"vkCmdBindPipeline", bindPipeline}, {"vkCmdBindDescriptorSets", bindSets}, {"vkCmdPushConstants", pushConstants},
    {"vkCmdDispatch", dispatch}, {"vkCmdCopyBuffer", copyBuffer},
    {"vkCmdPipelineBarrier", barrier}, {"vkCmdPipelineBarrier2", barrier}, {"vkCmdPipelineBarrier2KHR", barrier},
    {"vkQueueSubmit", submit}, {"vkQueueWaitIdle", nop}, {"vkDeviceWaitIdle", nop},
    {"vkCreateFence", createToken}, {"vkDestroyFence", destroyToken}, {"vkCreateSemaphore", createToken}, {"vkDestroySemaphore", destroyToken},
    {"vkResetFences", nop}, {"vkWaitForFences", nop}, {"vkGetFenceStatus", nop}, {0}};

static void *lookup(const Entry *e, const char *name) {
  for (; e->name; e++) if (!strcmp(e->name, name)) return e->function;
  return 0;
}
VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL compileOnlyDeviceProc(VkDevice d, const char *name) {
  void *found = lookup(deviceEntries, name);
  if (!found && !strncmp(name, "vkCmd", 5)) found = nop;  // every other command
  return found ? (PFN_vkVoidFunction)found : nextDeviceProc(d, name);
}
VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL compileOnlyInstanceProc(VkInstance i, const char *name) {
  void *found = lookup(instanceEntries, name);
  return found ? (PFN_vkVoidFunction)found : nextInstanceProc ? nextInstanceProc(i, name) : 0;
}
