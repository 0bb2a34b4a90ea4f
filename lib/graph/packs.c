/* Packed parameters, found by a hash of the parameter's place. */
#include "graph/packs.h"

#define BUCKETS 256

typedef struct pack {
    struct pack *next; /* of the bucket */
    ed_pack_key key;
    uint64_t version;
    void *data;
} pack;

struct ed_packs {
    ed_env *env; /* whose memory it is */
    pack *buckets[BUCKETS];
};

encdiff_status ed_packs_create(ed_env *env, ed_packs **out)
{
    *out = ed_alloc(env, 1, sizeof **out);
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    (*out)->env = env;
    return ENCDIFF_OK;
}

void ed_packs_free(ed_packs *packs)
{
    if (!packs) return;
    for (int i = 0; i < BUCKETS; i++)
        for (pack *p = packs->buckets[i], *next; p; p = next) {
            next = p->next;
            ed_free(packs->env, p->data);
            ed_free(packs->env, p);
        }
    ed_free(packs->env, packs);
}

static bool same_key(const ed_pack_key *a, const ed_pack_key *b)
{
    return a->packing == b->packing && a->set == b->set && a->offset == b->offset &&
           ed_shape_equal(&a->shape, &b->shape);
}

/* Parameters begin at multiples of 16 floats. */
static pack **bucket_of(ed_packs *packs, const ed_pack_key *key)
{
    return &packs->buckets[(key->offset / 16 + (size_t)key->set * 31) % BUCKETS];
}

static encdiff_status add(ed_packs *packs, const ed_pack_key *key, pack **out)
{
    pack *p = ed_alloc(packs->env, 1, sizeof *p);
    if (!p) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    p->key = *key;
    p->data = ed_alloc_raw(packs->env, ED_MAX(key->packing->bytes(&key->shape), 1));
    if (!p->data) {
        ed_free(packs->env, p);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    pack **bucket = bucket_of(packs, key);
    p->next = *bucket;
    *bucket = *out = p;
    return ENCDIFF_OK;
}

encdiff_status ed_packs_get(ed_env *env, ed_packs *packs, const ed_pack_key *key, const float *values, uint64_t version,
                            const void **packed)
{
    pack *p = *bucket_of(packs, key);
    while (p && !same_key(&p->key, key)) p = p->next;
    bool fresh = !p;
    if (fresh && add(packs, key, &p) != ENCDIFF_OK) {
        size_t bytes = key->packing->bytes(&key->shape);
        return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "no memory for %zu bytes of packed weights", bytes);
    }
    if (fresh || p->version != version) key->packing->make(&key->shape, values, p->data);
    p->version = version;
    *packed = p->data;
    return ENCDIFF_OK;
}
