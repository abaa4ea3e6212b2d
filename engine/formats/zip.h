/* zip.h - the records of a ZIP file (APPNOTE 6.3), as far as .npz needs them; for npz*.c only. */
#ifndef ENGINE_FORMATS_ZIP_H
#define ENGINE_FORMATS_ZIP_H

#include <stdint.h>

#define ZIP_LOCAL 0x04034b50u      /* 30 bytes, name, extra; then the data */
#define ZIP_DESCRIPTOR 0x08074b50u /* may be left out; crc, sizes of 4 or 8 bytes */
#define ZIP_CENTRAL 0x02014b50u    /* 46 bytes, name, extra, comment */
#define ZIP64_END 0x06064b50u      /* 12 bytes, the last 8 of which say how many follow */
#define ZIP64_LOCATOR 0x07064b50u  /* 20 bytes */
#define ZIP_END 0x06054b50u        /* 22 bytes, comment */

#define ZIP_LOCAL_SIZE 30
#define ZIP_CENTRAL_SIZE 46
#define ZIP64_END_SIZE 12
#define ZIP64_LOCATOR_SIZE 20
#define ZIP_END_SIZE 22

#define ZIP_FLAG_ENCRYPTED 1u
#define ZIP_FLAG_DESCRIPTOR 8u /* checksum and sizes come after the data */
#define ZIP_FLAG_UTF8 0x800u
#define ZIP_STORED 0
#define ZIP_DEFLATED 8
#define ZIP_EXTRA_ZIP64 1
#define ZIP_IN_ZIP64 0xffffffffu /* instead of a size: look into the extra field */

static inline uint16_t zip_u16(const unsigned char *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t zip_u32(const unsigned char *p) {
    return zip_u16(p) | (uint32_t)zip_u16(p + 2) << 16;
}

static inline uint64_t zip_u64(const unsigned char *p) {
    return zip_u32(p) | (uint64_t)zip_u32(p + 4) << 32;
}

#endif
