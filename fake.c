#define _GNU_SOURCE
#include "cuda/cuda_abi.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static CUcontext cur; static int live; static double now(void){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return t.tv_sec+1e-9*t.tv_nsec;}
__attribute__((destructor)) static void bye(void){fprintf(stderr,"[fake cuda: %d live allocations]\n",live);}
CUresult cuInit(unsigned int flags){return 0;}
CUresult cuDriverGetVersion(int *version){*version=13000;return 0;}
CUresult cuGetErrorName(CUresult result, const char **name){*name="FAKE";return 0;}
CUresult cuGetErrorString(CUresult result, const char **text){*text="fake";return 0;}
CUresult cuDeviceGet(CUdevice *device, int ordinal){*device=0;return 0;}
CUresult cuDeviceGetCount(int *count){*count=1;return 0;}
CUresult cuDeviceGetName(char *name, int capacity, CUdevice device){snprintf(name,capacity,"Fake H100");return 0;}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device){*value=attribute==75?9:attribute==76?0:attribute==16?132:attribute==36?2619000:attribute==37?5120:attribute==38?52428800:attribute==97?232448:attribute==13?1980000:0;return 0;}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device){*bytes=80ull<<30;return 0;}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device){*context=(CUcontext)0x1000;return 0;}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device){return 0;}
CUresult cuCtxGetCurrent(CUcontext *context){*context=cur;return 0;}
CUresult cuCtxSetCurrent(CUcontext context){cur=context;return 0;}
CUresult cuCtxPushCurrent_v2(CUcontext context){cur=context;return 0;}
CUresult cuCtxPopCurrent_v2(CUcontext *context){if(context)*context=cur;cur=0;return 0;}
CUresult cuCtxGetDevice(CUdevice *device){*device=0;return 0;}
CUresult cuCtxSynchronize(void){return 0;}
CUresult cuLibraryLoadData(CUlibrary *library, const void *code,          CUjit_option *jit_options, void **jit_values, unsigned int num_jit_options,          CUlibraryOption *options, void **values, unsigned int num_options){return 0;}
CUresult cuLibraryUnload(CUlibrary library){return 0;}
CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name){return 0;}
CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel){return 0;}
CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute,          CUkernel kernel, CUdevice device){return 0;}
CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value,          CUkernel kernel, CUdevice device){return 0;}
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function){return 0;}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value){return 0;}
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function,          void **parameters, void **extra){return 0;}
CUresult cuOccupancyMaxActiveClusters(int *clusters, CUfunction function,          const CUlaunchConfig *config){return 0;}
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type,          uint32_t rank, void *address, const uint64_t *shape, const uint64_t *strides, const uint32_t *box,          const uint32_t *element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,          CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill){return 0;}
CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute,          CUdeviceptr pointer){return 0;}
CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes,          void **values, CUdeviceptr pointer){return 0;}
CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes){return 0;}
CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes){if(bytes>(8ull<<30))return 2;*pointer=(CUdeviceptr)(uintptr_t)malloc(bytes);live++;return 0;}
CUresult cuMemFree_v2(CUdeviceptr pointer){free((void*)(uintptr_t)pointer);live--;return 0;}
CUresult cuMemAllocHost_v2(void **pointer, size_t bytes){return 0;}
CUresult cuMemFreeHost(void *pointer){return 0;}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes){memcpy((void*)to,from,bytes);return 0;}
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes){memcpy(to,(void*)from,bytes);return 0;}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes){return 0;}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream){return 0;}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream){return 0;}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream){memcpy((void*)to,(void*)from,bytes);return 0;}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream){return 0;}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream stream){return 0;}
CUresult cuStreamCreate(CUstream *stream, unsigned int flags){*stream=(CUstream)0x2000;return 0;}
CUresult cuStreamDestroy_v2(CUstream stream){return 0;}
CUresult cuStreamSynchronize(CUstream stream){return 0;}
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags){return 0;}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status){return 0;}
CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode){return 0;}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph){*graph=(CUgraph)0x3000;return 0;}
CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode){return 0;}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph,          unsigned long long flags){*exec=(CUgraphExec)malloc(4);return 0;}
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream){usleep(300);return 0;}
CUresult cuGraphUpload(CUgraphExec exec, CUstream stream){return 0;}
CUresult cuGraphExecDestroy(CUgraphExec exec){free(exec);return 0;}
CUresult cuGraphDestroy(CUgraph graph){return 0;}
CUresult cuEventCreate(CUevent *event, unsigned int flags){*event=(CUevent)malloc(8);return 0;}
CUresult cuEventDestroy_v2(CUevent event){free(event);return 0;}
CUresult cuEventRecord(CUevent event, CUstream stream){*(double*)event=now();return 0;}
CUresult cuEventSynchronize(CUevent event){return 0;}
CUresult cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end){*milliseconds=(float)(1e3*(*(double*)end-*(double*)begin));return 0;}
