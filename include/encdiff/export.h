/* How a function leaves the library: the one macro that every public declaration carries. */
#ifndef ENCDIFF_EXPORT_H
#define ENCDIFF_EXPORT_H

#if defined(ENCDIFF_BUILDING) && defined(__GNUC__)
#define ENCDIFF_API __attribute__((visibility("default")))
#else
#define ENCDIFF_API
#endif

#if defined(__GNUC__)
#define ENCDIFF_FORMAT(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define ENCDIFF_FORMAT(fmt, args)
#endif

#endif
